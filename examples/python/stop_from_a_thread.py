"""Start a job in the background, and stop it from another thread once its guest is at work."""

import threading
from pathlib import Path

import procstop
from procstop import Job, Task
from procstop.events import AttemptProgress, Event

COUNTS = Path(__file__).parent / "counts.wat"

at_work = threading.Event()


def watch(event: Event) -> None:
    """Get every event of the run, in a thread that is not the run's own."""
    if isinstance(event, AttemptProgress):
        at_work.set()


def main() -> None:
    job = Job("endless", [Task("count", COUNTS, "count", [0])])
    run = procstop.start(job, observers=[watch])

    def stop() -> None:
        at_work.wait()
        run.stop()

    threading.Thread(target=stop).start()
    attempt = run.result()["count"].attempts[-1]
    print(attempt.outcome.value, "because of", attempt.reason.value, "on the rung", attempt.rung.value)


if __name__ == "__main__":
    main()
