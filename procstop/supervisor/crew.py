"""What all attempts of a run share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from procstop.supervisor.announcer import Announcer
from procstop.supervisor.artifacts import Artifacts
from procstop.supervisor.family import Family
from procstop.supervisor.guarding import Guarding
from procstop.supervisor.loop import Loop
from procstop.supervisor.pool import Pool
from procstop.supervisor.spawner import Spawner


@dataclass
class Crew:
    """The parts of a supervisor that live as long as its run.

    `not_kept` is told of output that was to be kept and could not be.
    """

    loop: Loop
    announce: Announcer
    family: Family
    guarding: Guarding
    artifacts: Artifacts
    spawner: Spawner
    pool: Pool
    output_dir: str | None
    not_kept: Callable[[str], None]
