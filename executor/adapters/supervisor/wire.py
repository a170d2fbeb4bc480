"""What passes between the supervisor and its client: descriptors, orders, result lines."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REQUESTS, RESULTS = 0, 1  # file descriptors
STOP, KILL = b"s", b"k"  # orders from the client to the supervisor, and from there to the keepers
CHUNK = 65536


def send_line(value: dict[str, Any]) -> None:
    """Write one result line; shorter than PIPE_BUF, so that lines of several keepers do not mix."""
    value["problem"] = value.get("problem", "")[:300]
    try:
        os.write(RESULTS, json.dumps(value).encode() + b"\n")
    except BrokenPipeError:
        pass  # the coordinator is gone; what matters is in the result file
