"""A process that uses a cache as a compiler does, and says what it has got to.

python storing.py store DIRECTORY NAME unnamed|named    store one artifact after another, for ever, a line for each
python storing.py lock DIRECTORY NAME                   take the lock, and hold it until standard input ends
"""

from __future__ import annotations

import os
import sys

from procstop.cache import Cache, seal

SIZE = 300_000


def content(number: int) -> bytes:
    """Return what artifact number so and so holds: half of one and half of another would be seen."""
    return str(number % 10).encode() * SIZE


def main() -> None:
    """Do as the command line says."""
    what, directory, name, *how = sys.argv[1:]
    cache = Cache(directory)
    secret = cache.secret()
    if what == "lock":
        print("wants it", flush=True)
        with cache.lock(name):
            print("has it", flush=True)
            sys.stdin.read()
        return
    if how == ["named"]:
        del os.O_TMPFILE
    number = 0
    while True:
        number += 1
        cache.store(name, seal(secret, name, {}, content(number)), content(number))
        print(number, flush=True)


if __name__ == "__main__":
    main()
