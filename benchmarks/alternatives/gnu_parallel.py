"""GNU parallel with --timeout and --termseq: one call for many tasks, each the script that hosts a guest."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time

from benchmarks.alternatives.commands import SCRIPT, Command, start_quietly
from benchmarks.contender import CONCURRENCY, DEADLINE_S, GRACE_S, LIMIT_S, Place, read_sign, wait_gone
from benchmarks.guests import PARTIAL

_WARM_UP = 2


class GnuParallel(Command):
    """`parallel --timeout --termseq`."""

    name = "GNU parallel"
    what = (
        "one call of `parallel --timeout LIMIT --termseq TERM,1000,KILL,25` (`KILL,25` where there is no grace) "
        "for all tasks, each a Python script that runs the guest"
    )
    install = "apt-get install parallel"

    def why_not(self) -> str | None:
        """See `Contender`."""
        path = shutil.which("parallel")
        # Another program of that name comes with moreutils.
        if path is None or b"GNU" not in subprocess.run([path, "--version"], capture_output=True).stdout:
            return "GNU parallel is not installed"
        return super().why_not()

    def parallel(self, jobs: int, limit_s: float, *, grace: bool = False, log: str | None = None) -> list[str]:
        """Return the call without its tasks, which are the arguments of the script."""
        sequence = f"TERM,{GRACE_S * 1000:.0f},KILL,25" if grace else "KILL,25"
        options = ["--will-cite", f"-j{jobs}", "--timeout", str(limit_s), "--termseq", sequence]
        return ["parallel", *options, *(["--joblog", log] if log else []), sys.executable, SCRIPT]

    def call(self, command: list[str], limit_s: float, *, grace: bool = False) -> tuple[bool, bytes]:
        """See `Command`."""
        done = subprocess.run([*self.parallel(1, limit_s, grace=grace), *command[2:], ":::", ""], capture_output=True)
        return done.returncode != 0, done.stdout

    def begin(self, command: list[str]) -> int:
        """See `Command`."""
        raise NotImplementedError("one call starts them all")

    def many(self, place: Place, count: int) -> float:
        """See `Contender`; the start of parallel itself is counted."""
        self.why_not()
        guests = [place.guest("trivial")] * count
        command = [*self.parallel(CONCURRENCY, LIMIT_S), self.engine, ":::", *guests]
        began = time.monotonic()
        subprocess.run(command, capture_output=True, check=True)
        return time.monotonic() - began

    def starts(self, place: Place, count: int) -> list[float]:
        """See `Contender`; parallel's own log says when a task was started, to the millisecond."""
        rows = self._log(place, "tells", count)
        ahead = time.time() - time.monotonic()
        return [told / 1e9 + ahead - began for began, told in rows]

    def lives(self, place: Place, count: int) -> list[float]:
        """See `Contender`; from the start of a task to the start of the next."""
        begun = [began for began, _ in self._log(place, "trivial", count + 1)]
        return [later - earlier for earlier, later in itertools.pairwise(begun)]

    def stop(self, place: Place, guest: str, *, grace: bool) -> float | None:
        """See `Contender`; the clock starts with the script, not with parallel."""
        sign = place.sign()
        self.why_not()
        command = [*self.parallel(1, DEADLINE_S, grace=grace), self.engine, "{}", sign, ":::", place.guest(guest)]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as process:
            pid, began = read_sign(sign, place.patience_s)
            gone = wait_gone(pid, place.patience_s)
            process.kill()
        return None if gone is None else gone - began - DEADLINE_S

    def spin(self, place: Place, count: int) -> set[int]:
        """See `Contender`."""
        self.why_not()
        signs = [place.sign() for _ in range(count)]
        command = [*self.parallel(count, 600), self.engine, place.guest("spins"), "{}", ":::", *signs]
        pid = start_quietly(command)
        for sign in signs:
            read_sign(sign, place.patience_s)
        return {pid}

    def keeps_output(self, place: Place) -> tuple[bool | None, str]:
        """See `Contender`."""
        self.why_not()
        command = [*self.parallel(1, DEADLINE_S), self.engine, ":::", place.guest("prints")]
        done = subprocess.run(command, capture_output=True, timeout=place.patience_s)
        return PARTIAL in done.stdout, "in the task's own output"

    def _log(self, place: Place, guest: str, count: int) -> list[tuple[float, int]]:
        """Run a guest many times, one after the other; return when each was started, and what it told."""
        self.why_not()
        log = os.path.join(place.folder, "joblog")
        guests = [place.guest(guest)] * (count + _WARM_UP)
        command = [*self.parallel(1, LIMIT_S, log=log), self.engine, ":::", *guests]
        done = subprocess.run(command, capture_output=True, check=True)
        told = [int(line) for line in done.stdout.split()] or [0] * len(guests)
        with open(log, encoding="utf-8") as file:
            begun = [float(line.split("\t")[2]) for line in list(file)[1:]]
        return list(zip(begun, told))[_WARM_UP:]
