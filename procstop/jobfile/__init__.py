"""Job files: TOML to a `Job`, with every problem in a line that names file, task and key.

```
load.py      the whole way: load_job, single_job
read.py      a file's bytes to a table          layers.py    settings in layers, --set
schema.py    the tables as pydantic models      values.py    the types of their values
explain.py   pydantic's errors as sentences     wording.py   values, keys and guesses in words
entries.py   a [[task]] to tasks                each.py      globs and tokens
needs.py     names, cycles, choices             units.py     durations and sizes
export.py    the JSON schema and defaults.toml
```

Imports `errors` and `model` of procstop and nothing else of it; never reads a module's bytes.
"""

from procstop.jobfile.export import job_schema
from procstop.jobfile.layers import user_config_file
from procstop.jobfile.load import load_job, single_job
from procstop.jobfile.units import format_duration, format_size, parse_duration, parse_size

__all__ = [
    "format_duration",
    "format_size",
    "job_schema",
    "load_job",
    "parse_duration",
    "parse_size",
    "single_job",
    "user_config_file",
]
