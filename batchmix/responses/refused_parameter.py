"""Which parameter to change, where a model refuses one."""

from __future__ import annotations

import re

from batchmix.responses.error_body import ProviderError

_NAME = r"['\"`\[]*([A-Za-z]\w*(?:\.\w+)*)"
_BOUND = r"\d+ > \d+|\(\d+\) exceeds|must be (?:less|at most|between)"
_INSTEAD = re.compile(rf"use {_NAME}['\"`]? instead", re.IGNORECASE)
_REFUSED = (
    re.compile(rf"(?:parameters?|value|argument supplied|name|field|model)['\"]?: {_NAME}", re.IGNORECASE),
    re.compile(rf"^\W*{_NAME}['\"`]?:? (?:is too large|is deprecated|{_BOUND}|extra inputs)", re.IGNORECASE),
    re.compile(rf"invalid {_NAME}: only", re.IGNORECASE),
    re.compile(r"['\"`](\w+)['\"`] (?:is|has been) (?:deprecated|not|no longer|unsupported)", re.IGNORECASE),
)
_VALUE = re.compile(
    rf"unsupported value|only .{{1,40}} (?:is|are) (?:supported|allowed)|too large|{_BOUND}", re.IGNORECASE
)
_LONGEST = 60
_OTHER_NAMES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_NOT_IN_PARAMS = ("messages", "model", "input", "prompt")


def advice(complaint: ProviderError) -> tuple[str, str]:
    """Return the parameter that is refused, and what to do; both empty where the refusal is about something else."""
    named = [complaint.param, *(match[1] for pattern in _REFUSED if (match := pattern.search(complaint.message)))]
    refused = next((name for name in named if re.fullmatch(r"[A-Za-z][\w.]*", name) and len(name) <= _LONGEST), "")
    if not refused or refused.partition(".")[0] in _NOT_IN_PARAMS:
        return "", ""
    if _VALUE.search(complaint.message):
        return refused, f"change {refused} or leave it out for this model"
    instead = _INSTEAD.search(complaint.message)
    other = instead[1] if instead else _OTHER_NAMES.get(refused)
    if other:
        return refused, f"use {other} instead of {refused} for this model"
    return refused, f"leave out {refused} for this model"
