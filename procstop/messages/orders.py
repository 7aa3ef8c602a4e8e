"""What a worker is to do: laid ready for one that is started anew, sent along with a request to fork one.

Both come from the supervisor, and are trusted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from procstop.model import Value

TOKEN = "PROCSTOP_ATTEMPT"
"""Environment variable that marks what a run starts, unless that drops it: the attempt's id, or the run's alone."""


@dataclass(frozen=True)
class Order:
    """All that a worker needs to know, but for the attempts that it hosts. Paths are absolute.

    `bindings` maps "module.name" to a function of procstop, `host_functions` to "module:qualname" references.
    `module_digest` is the SHA-256 of the module in hex; `hosts` is how many attempts the worker may host. `memory` and
    `file_size` in bytes, `cpu` in seconds, and `open_files` are caps that the worker puts on itself; None is none.
    `start` is how long the worker may be there until its guest is about to run, in seconds, and `life` how long from
    then on (None without a time limit), whatever becomes of its supervisor.
    `landlock` and `seccomp` say which layers of the sandbox to close (see `sandbox.Grants`), `allow` what host
    functions may do in it, `user` whom to be instead of root. `beats_asleep` asks for signs of life from a guest that
    sleeps.
    """

    engine: str
    module_name: str
    call: str
    env: dict[str, str] = field(default_factory=dict)
    dirs: list[tuple[str, str, bool]] = field(default_factory=list)
    bindings: dict[str, str] = field(default_factory=dict)
    host: str | None = None
    host_functions: dict[str, str] = field(default_factory=dict)
    main_path: str | None = None
    strategy: str = "finish-current"
    strategy_n: int = 0
    check_every: int = 1
    sys_path: list[str] = field(default_factory=list)
    module_digest: str = ""
    hosts: int = 1
    memory: int | None = None
    cpu: float | None = None
    open_files: int | None = None
    file_size: int | None = None
    start: float | None = None
    life: float | None = None
    landlock: int = 0
    seccomp: bool = False
    allow: list[str] = field(default_factory=list)
    user: int | None = None
    beats_asleep: bool = False


@dataclass(frozen=True)
class Start:
    """What a worker that is started anew finds laid ready: the order, and the first attempt.

    `args` are encoded values (see `encode_value`), or argv strings for "_start". `artifact` is the name under which the
    compiled module was sealed, None where there is none.
    """

    order: Order
    attempt: str
    args: tuple[Value, ...] = ()
    artifact: str | None = None


def encode_order(order: Order) -> bytes:
    """Write an order as JSON."""
    # Not by `asdict`, which copies everything deeply first; `vars` is every field, as it is.
    return json.dumps(vars(order)).encode()


def decode_order(data: bytes | str) -> Order:
    """Read what `encode_order` wrote; it comes from the supervisor and is trusted."""
    return _order_of(json.loads(data))


def encode_start(start: Start) -> bytes:
    """Write all that a new worker needs as JSON."""
    return json.dumps({**vars(start), "order": vars(start.order)}).encode()


def decode_start(data: bytes) -> Start:
    """Read what `encode_start` wrote; it comes from the supervisor and is trusted."""
    fields = json.loads(data)
    fields.update(order=_order_of(fields["order"]), args=tuple(fields["args"]))
    return Start(**fields)


def _order_of(fields: dict[str, Any]) -> Order:
    fields["dirs"] = [(guest, host, bool(write)) for guest, host, write in fields["dirs"]]
    return Order(**fields)
