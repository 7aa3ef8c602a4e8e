"""Make a module ready to be instantiated: from its artifact where there is a sound one, else by compiling."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from procstop.cache import BadArtifact, unseal
from procstop.engines import Engine
from procstop.errors import EngineError, GuestError
from procstop.module import ModuleInfo, NotAModule, read_module


@dataclass
class Prepared:
    """A module in an engine. `data` is its bytes while it is still to be compiled, None once it is loaded.

    `note` says why it is not loaded though there was an artifact.
    """

    engine: Engine
    info: ModuleInfo
    data: bytes | None = None
    note: str | None = None

    def compile(self) -> None:
        """Compile the module unless it is loaded; raise `EngineError` where the engine cannot."""
        if self.data is not None:
            self.engine.compile(self.data)
            self.data = None


def prepare(
    engine: Engine, data: bytes, digest: str, name: str | None, sealed: bytes | None, secret: bytes | bytearray
) -> Prepared:
    """Read a module and load its artifact if that is what was sealed under `name`; compile nothing.

    Raise `GuestError` if the bytes are no module, or not the one with this SHA-256 (in hex; empty for any).
    """
    if digest and hashlib.sha256(data).hexdigest() != digest:
        raise GuestError("module: the file has changed since it was checked")
    try:
        info = read_module(data, scan_code=False)
    except NotAModule as error:
        raise GuestError(str(error)) from None
    if name is None or sealed is None:
        return Prepared(engine, info, data)
    try:
        engine.load(bytes(unseal(secret, name, sealed)))
    except (BadArtifact, EngineError) as error:
        return Prepared(engine, info, data, f"the artifact in the cache cannot be used ({error})")
    return Prepared(engine, info)
