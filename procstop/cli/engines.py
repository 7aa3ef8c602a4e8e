"""`procstop engines`: what is here, and what it can do."""

from __future__ import annotations

import platform

import typer

from procstop import sandbox
from procstop.engines.abilities import FEATURES, PREFERENCE
from procstop.model import Containment
from procstop.preflight import engine_status
from procstop.preflight.contained import contained
from procstop.wasi import VERSIONS

_NOTES = {
    "wasmer": "holds the GIL while a guest runs; preemption: no",
    "wasmtime": "releases the GIL while a guest runs; preemption: not offered yet",
}


def engines_command() -> int:
    """Print each engine's state; return 0 if any is here, else 1."""
    here = 0
    typer.echo(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in PREFERENCE:
        status = engine_status()[name]
        if status.why_not is None:
            here += 1
            typer.echo(f"{name}: {status.version}")
        else:
            typer.echo(f"{name}: {status.why_not}")
            typer.echo(f"  to do: {status.advice}")
        typer.echo(f"  proposals: {', '.join(sorted(FEATURES[name] - {'unknown-opcode'}))}")
        typer.echo(f"  WASI: {', '.join(VERSIONS)}")
        typer.echo(f"  {_NOTES[name]}")
    typer.echo(f"auto: {' before '.join(PREFERENCE)}, whichever can run the module")
    found = contained(Containment(), sandbox.probe(), drops=True)
    typer.echo(f"containment: {found.level.value}")
    if found.user is not None:
        typer.echo(f"  workers of tasks without directories and host functions become user {found.user}")
    for sentence in found.missing:
        typer.echo(f"missing here: {sentence}")
    return 0 if here else 1
