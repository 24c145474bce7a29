"""The scorers `own` and `judge`: their settings. `evaluation` calls the function, and sends the judge's requests."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from batchmix.errors import JobError
from batchmix.scorers.settings import ScorerSettings


class Custom(ScorerSettings, frozen=True, kw_only=True, tag="own"):
    """Scores with the user's own Python function, from a module beside the job file or an installed one.

    The function runs in a process of its own, which `evaluation.custom_scorer` starts.
    """

    needs_target: ClassVar[bool] = False
    takes_empty_target: ClassVar[bool] = True
    python: str
    """`module:function`, called as `function(response, target, row)`."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """The maximum time, in seconds, that the function may take for one answer."""


class Judge(ScorerSettings, frozen=True, kw_only=True, tag="judge"):
    """Scores with another model, which grades the answer on a scale. The grade is converted to a score from 0 to 1.

    `evaluation.judge` runs it as a job.
    """

    needs_target: ClassVar[bool] = False
    takes_empty_target: ClassVar[bool] = True
    model: str
    rubric: str
    """A template over the carried columns, `response` and `target`."""
    scale: tuple[float, float] = (0.0, 1.0)
    """The worst and the best number."""
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    requests_per_minute: Annotated[float, msgspec.Meta(gt=0)] | None = None
    tokens_per_minute: Annotated[float, msgspec.Meta(gt=0)] | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    """If one of these three limits is None, the job's limit applies."""
    max_usd: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """The maximum cost of judging a run. None for the part of the job's budget that the run did not use."""

    def check(self) -> None:
        """Raise `JobError` for an impossible scale, or for a rubric or model that is missing."""
        if not self.scale[0] < self.scale[1]:
            raise JobError("eval.scorers.scale: the worst number comes first, then the best")
        if "response" not in self.rubric:
            raise JobError("eval.scorers.rubric: must show the answer, {{ response }}")
        if not self.model.strip():
            raise JobError("eval.scorers.model: is empty; give the judge's id, such as gpt-4o")
