"""A function for the scorer `own` that compares mathematical expressions, with the library math-verify.

The scorer runs it in a process of its own and stops it after `timeout_s`, since a formula can take for ever.
"""

from __future__ import annotations

from typing import Any


def equal_formulas(response: str, target: str, row: Any) -> float:
    """Return 1 if the formula that an answer gives equals the target, such as `2\\sqrt{2}`, otherwise 0."""
    from math_verify import parse, verify

    wanted = parse(f"${target}$", parsing_timeout=None)
    found = parse(response, parsing_timeout=None)
    return float(verify(wanted, found, timeout_seconds=None))
