"""`python -m procstop.jobfile --write FOLDER` writes the files that are generated from the models."""

from __future__ import annotations

import sys
from pathlib import Path

from procstop.jobfile.export import job_schema_text, write_files


def main(arguments: list[str]) -> int:
    """Print the JSON schema, or write it and defaults.toml into a folder; return an exit code."""
    if not arguments:
        sys.stdout.write(job_schema_text())
        return 0
    if len(arguments) != 2 or arguments[0] != "--write":
        sys.stderr.write("usage: python -m procstop.jobfile [--write FOLDER]\n")
        return 2
    try:
        written = write_files(Path(arguments[1]))
    except OSError as error:
        sys.stderr.write(f"{arguments[1]}: cannot be written: {error.strerror}\n")
        return 2
    for path in written:
        sys.stdout.write(f"wrote {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
