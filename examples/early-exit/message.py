"""An early exit as any other error: the guest is left, and the outcome keeps type and message."""


def early_exit() -> None:
    raise RuntimeError("oops")


imports = {"env.early_exit": early_exit}
