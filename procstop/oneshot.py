"""What a one-shot child does around its one answer: a child of the supervisor that is asked once, and ends.

Request and answer are JSON objects on standard input and output. The argument is the supervisor's pid.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from procstop import linux


def answer_once(make: Callable[[dict[str, Any]], object]) -> None:
    """Write what `make` returns for the request, whose "sys_path" is where to import; die with the supervisor."""
    linux.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)
    request = json.load(sys.stdin)
    sys.path.extend(request["sys_path"])
    # What an engine prints must not end up in the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    json.dump(make(request), answer)
    answer.close()
