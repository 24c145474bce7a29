"""What a plan says of the evaluation that follows the run, as values. `verdict.planning` finds them."""

from __future__ import annotations

import msgspec


class JudgePlan(msgspec.Struct, frozen=True):
    """The most requests that a judge's model will get, and the range of their cost."""

    scorer: str
    model: str
    requests: int
    """An upper bound, since results without an answer are not judged, and verdicts of earlier runs are reused."""
    least_usd: float | None
    """The cost if prompts hold only the rubric and answers have one token. None if the price is unknown."""
    most_usd: float | None
    """The cost if each rubric includes the whole prompt and the longest answer. None if the price is unknown, or if the
    length of the answers has no bound."""


class DetectableFall(msgspec.Struct, frozen=True):
    """The smallest fall of a score that the comparison of two runs finds in 80 % of cases."""

    model: str
    """Empty if each row names its model."""
    scorer: str
    rows: int
    fall: float | None
    """None with fewer than two rows, and if no fall is large enough."""
    run: str
    """The past run whose scores it is computed from. Empty: the worst case, in which half of the answers are right, and
    which ones is chance."""
