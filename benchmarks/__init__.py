"""Measurements: procstop and what a user would pick instead, side by side.

Theory of operation. `run.py` starts a process of its own for each figure (`cell.py`: one contender, one row), times the
floor between them, and leaves nothing behind of any (`processes.py`). A contender (`contender.py`) knows how its users
would run a guest; a row (`rows.py`, `own_rows.py`) knows what is asked of it. `table.py` prints what came out, and
`results.py` makes RESULTS.md of it.
"""
