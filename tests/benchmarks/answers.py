"""Measure what checking an answer costs: `python -m tests.benchmarks.answers`.

An answer with ten fields is read and checked, compact and indented, plain and in a code fence; beside it, reading it
alone, and the check of the jsonschema package where that is installed. The figures are medians of interleaved rounds, in
microseconds of CPU per answer. The bound is promised for answers that need no healing.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from batchmix.answers.check import AnswerCheck, Checked

ROUNDS, ANSWERS = 15, 4000
MOST_US = 5.0
VALUE: dict[str, Any] = {
    "title": "A quiet café near the station",
    "sentiment": "positive",
    "stars": 4,
    "share": 0.25,
    "verified": True,
    "language": "en",
    "summary": "Friendly staff: two of them remembered the order. Prices are fair.",
    "visits": 12,
    "price_usd": 8.5,
    "reply": None,
}
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        name: {"type": _TYPES[type(value)]} if value is not None else {"anyOf": [{"type": "string"}, {"type": "null"}]}
        for name, value in VALUE.items()
    }
    | {"sentiment": {"enum": ["positive", "neutral", "negative"]}},
    "required": list(VALUE),
    "additionalProperties": False,
}


def ways() -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    check = AnswerCheck(SCHEMA).check
    compact = json.dumps(VALUE, ensure_ascii=False, separators=(",", ":"))
    spaced, indented = json.dumps(VALUE), json.dumps(VALUE, ensure_ascii=False, indent=2)
    fenced = f"```json\n{indented}\n```"
    found: dict[str, Callable[[], object]] = {
        "compact": lambda: check(compact),
        "spaced": lambda: check(spaced),
        "indented": lambda: check(indented),
        "healed: fenced": lambda: check(fenced),
        "msgspec, without a check": lambda: msgspec.json.decode(spaced),
    }
    for text in (compact, spaced, indented, fenced):
        assert check(text) == Checked(VALUE, healed=text is fenced)
    if importlib.util.find_spec("jsonschema"):
        from jsonschema import Draft202012Validator

        validator = Draft202012Validator(SCHEMA)
        found["json and jsonschema"] = lambda: validator.is_valid(json.loads(spaced))
    return found


def microseconds(call: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times * 1e6


def main() -> int:
    """Print the figures; return 1 if a plain answer costs more than is promised."""
    measured = ways()
    figures: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(ROUNDS):
        for name, call in measured.items():
            figures[name].append(microseconds(call, ANSWERS if "jsonschema" not in name else ANSWERS // 20))
    missed = 0
    for name, rounds in figures.items():
        median = statistics.median(rounds)
        bound = name in ("compact", "spaced", "indented")
        missed += bound and median > MOST_US
        verdict = f"  ≤ {MOST_US:g}  {'ok' if median <= MOST_US else 'miss'}" if bound else ""
        print(f"{name:26} {median:7.2f} µs  (least {min(rounds):.2f}){verdict}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
