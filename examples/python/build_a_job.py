"""Build a job without a file, with Python functions for its guest to call, and run it."""

from pathlib import Path

import procstop
from procstop import Job, Limits, Outcome, Task

HERE = Path(__file__).parent


def price(article: int) -> int:
    """Run in the worker, which imports this file for it; so what runs the job stands under `__main__` below."""
    if article != 7:
        raise ValueError(f"there is no article {article}")
    return 80


def main() -> None:
    shop = {"shop.price": price}
    job = Job(
        "shopping",
        [
            Task("cheap", HERE / "price.wat", "total", [7, 7], host=shop),
            Task("unknown", HERE / "price.wat", "total", [7, 8], host=shop, expect=[Outcome.HOST_ERROR]),
            Task("endless", HERE / "counts.wat", "count", [0], limits=Limits(time=0.3), expect=[Outcome.INTERRUPTED]),
        ],
    )
    record = procstop.run(job)
    for task in record.tasks:
        print(task.task, task.outcome.value, task.values, task.attempts[-1].message)
    print("all as expected" if record.ok else "not as expected")


if __name__ == "__main__":
    main()
