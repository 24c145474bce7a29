"""Says in words what a run folder holds, for the end of a run, for `status`, and for a run in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchmix.store.answer_totals import Fared
from batchmix.store.view import View

_MAX_MESSAGE = 240
"""The most characters of an error message that are shown."""


def headline(view: View) -> str:
    """Return whether a run is finished."""
    if not view.is_finished:
        return "not finished"
    return "finished" if view.totals.as_asked == view.asked else "finished, some rows have no answer"


def state_of(view: View) -> str:
    """Return whether a run is running, finished or stopped, and why it stopped."""
    if view.holder is not None:
        return f"running ({view.holder})"
    last = view.run.starts[-1] if view.run.starts else None
    if view.is_finished and not (view.unanswered and last and last.reason):  # a canary says that it was only that
        return headline(view)
    if last is None or last.ended_at is None:
        return "not finished; the last process was killed; the same command resumes it"
    reason = f": {last.reason}" if last.reason else ""
    return f"not finished; stopped at {last.ended_at}{reason}"


def checked_text(answers: Mapping[str, Any]) -> str:
    """Return how answers fared in the check by the job's schema, given totals of `summary.json`."""
    return ", ".join(f"{answers[fared]:,} {'valid at once' if fared is Fared.VALID else fared}" for fared in Fared)


def short_message(text: str, max_chars: int = _MAX_MESSAGE) -> str:
    """Return a message on one line. A long message loses its middle, because its end has the advice."""
    text = " ".join(text.split())
    return text if len(text) <= max_chars else f"{text[: max_chars // 3]} … {text[-max_chars * 2 // 3 :]}"
