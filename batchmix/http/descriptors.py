"""File descriptors: each connection takes one, and the system gives a process so many and no more."""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
from pathlib import Path

OUT_OF_THEM = frozenset({errno.EMFILE, errno.ENFILE})
_BESIDE = 32
"""That the process opens besides its connections, for journals and parts."""
_logger = logging.getLogger(__name__)


def connection_room(wanted: int) -> int:
    """Return how many connections there may be at once, `wanted` at the most; the process's limit is raised for them.

    Warns where there is room for fewer.
    """
    taken = sum(1 for _ in Path("/dev/fd").iterdir()) + _BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < taken + wanted:
        soft = taken + wanted if hard == resource.RLIM_INFINITY else hard
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= taken + wanted:
        return wanted
    room = max(1, soft - taken)
    _logger.warning(
        "no more than %d requests are sent at once, not %d: this process may open %d files (ulimit -n); raise that, or"
        " lower limits.concurrency", room, wanted, soft,
    )  # fmt: skip
    return room
