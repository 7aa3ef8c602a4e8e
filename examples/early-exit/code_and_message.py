"""An early exit as an error that carries a code and a message."""

import procstop


def early_exit() -> None:
    raise procstop.Exit(1, "early exit asked for")


imports = {"env.early_exit": early_exit}
