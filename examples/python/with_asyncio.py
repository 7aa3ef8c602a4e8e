"""Run jobs beside each other without blocking the event loop, and give one a time of its own."""

import asyncio
from pathlib import Path

import procstop
from procstop import Job, Task

COUNTS = Path(__file__).parent / "counts.wat"


async def main() -> None:
    jobs = [Job(f"to {end}", [Task("count", COUNTS, "count", [end])]) for end in (1000, 2000)]
    for record in await asyncio.gather(*map(procstop.run_async, jobs)):
        print(record.job, record["count"].outcome.value, record["count"].values)

    endless = Job("endless", [Task("count", COUNTS, "count", [0])])
    try:
        # Cancelling stops the guest as Ctrl-C would, and returns when nothing of it is left.
        await asyncio.wait_for(procstop.run_async(endless), timeout=1)
    except asyncio.TimeoutError:
        print("endless was stopped")


if __name__ == "__main__":
    asyncio.run(main())
