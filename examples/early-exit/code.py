"""An early exit as an error that carries a code."""

import procstop


def early_exit() -> None:
    raise procstop.Exit(1)


imports = {"env.early_exit": early_exit}
