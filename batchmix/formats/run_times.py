"""The times of a run, as its files and its pages have them."""

from __future__ import annotations

import re
import time


def now_text() -> str:
    """Return the current time in the format of `run.json`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def precise_now_text() -> str:
    """Return the current time in milliseconds, for what is put in order by it, such as starts and evaluations."""
    return text_of_ms(int(time.time() * 1000))


def text_of_ms(ms: int) -> str:
    """Return a Unix time in milliseconds as text, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03}Z"


def without_milliseconds(text: str) -> str:
    """Return the time of a start for people."""
    return re.sub(r"\.[0-9]+Z$", "Z", text)
