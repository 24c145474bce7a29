"""The scorers `own` and `judge`: their settings. `evaluation` calls the function, and sends the judge's requests."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from batchmix.errors import JobError
from batchmix.scorers.settings import MAX_SCORE, ScorerSettings

VerdictForm = Literal["nonce", "free", "json"]
PAIR_SCORES = {"A": 1.0, "TIE": 0.5, "B": 0.0}
"""The score of the answer that is shown as A, by the verdict on a pair."""


class Custom(ScorerSettings, frozen=True, kw_only=True, tag="own"):
    """Scores with the user's own Python function, from a module beside the job file or an installed one.

    The function runs in a process of its own, which `evaluation.custom_scorer` starts.
    """

    needs_target: ClassVar[bool] = False
    takes_empty_target: ClassVar[bool] = True
    beside_the_score: ClassVar[frozenset[str]] = frozenset({"timeout_s"})
    python: str
    """`module:function`, called as `function(response, target, row)`."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """The maximum time, in seconds, that the function may take for one answer."""

    @property
    def worst(self) -> float | None:
        """None: a function may give any number."""
        return None


class Judge(ScorerSettings, frozen=True, kw_only=True, tag="judge"):
    """Scores with other models, which grade the answer on a scale, give it a label, or compare it with another answer.

    `evaluation.judge` runs it as a job.
    """

    needs_target: ClassVar[bool] = False
    takes_empty_target: ClassVar[bool] = True
    beside_the_score: ClassVar[frozenset[str]] = frozenset(
        {"requests_per_minute", "tokens_per_minute", "concurrency", "max_usd"}
    )
    model: str = ""
    """The model that judges; or, instead of it, several `models`, whose majority or median counts."""
    models: tuple[str, ...] = ()
    rubric: str
    """A template over the carried columns, `response` and `target`; in a comparison also `other`."""
    scale: tuple[float, float] = (0.0, 1.0)
    """The worst and the best number."""
    labels: tuple[str, ...] | dict[str, float] = ()
    """The labels to choose from, instead of a scale: the best one first, or each with its score."""
    form: VerdictForm = "nonce"
    """How the verdict is asked for: in a line that no text can contain, as JSON, or as the rubric says (`free`)."""
    pairwise: bool = False
    """Whether the answer is compared with that of the run's baseline, in both orders."""
    against: str | None = None
    """The run that each answer is compared with, instead of the baseline."""
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    requests_per_minute: Annotated[float, msgspec.Meta(gt=0)] | None = None
    tokens_per_minute: Annotated[float, msgspec.Meta(gt=0)] | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    """If one of these three limits is None, the job's limit applies."""
    max_usd: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """The maximum cost of judging a run. None for the part of the job's budget that the run did not use."""

    @property
    def judges(self) -> tuple[str, ...]:
        """The ids of the models that judge."""
        return self.models or (self.model,)

    @property
    def compares(self) -> bool:
        """Whether each answer is compared with an answer of another run."""
        return self.pairwise or self.against is not None

    @property
    def worst(self) -> float | None:
        """The worst number of the scale, or the score of the worst label."""
        return min(self.label_scores.values(), default=self.scale[0])

    @property
    def brings_targets(self) -> bool:
        """Whether results without a partner in the other run are no results to score."""
        return self.compares

    @property
    def requests_per_answer(self) -> int:
        """The number of requests for each answer: one for each judge, and for each order of a pair."""
        return len(self.judges) * (2 if self.compares else 1)

    @property
    def label_scores(self) -> dict[str, float]:
        """The score of each label. Empty if the judge gives a number of the scale."""
        if self.compares:
            return PAIR_SCORES
        if isinstance(self.labels, dict):
            return self.labels
        last = max(1, len(self.labels) - 1)
        return {label: 1 - place / last for place, label in enumerate(self.labels)}

    def check(self) -> None:
        """Raise `JobError` if the rubric or a model is missing, or if settings contradict each other."""
        if not self.scale[0] < self.scale[1]:
            raise JobError("eval.scorers.scale: the worst number comes first, then the best")
        if max(map(abs, self.scale)) > MAX_SCORE:
            raise JobError(f"eval.scorers.scale: its numbers are at most {MAX_SCORE:g} in size")
        if "response" not in self.rubric:
            raise JobError("eval.scorers.rubric: must show the answer, {{ response }}")
        if self.compares:
            self._check_comparison()
        self._check_models()
        self._check_labels()

    def _check_comparison(self) -> None:
        if "other" not in self.rubric:
            raise JobError("eval.scorers.rubric: must show both answers, as A: {{ response }} and B: {{ other }}")
        for name, is_given in (("labels", bool(self.labels)), ("scale", self.scale != (0.0, 1.0))):
            if is_given:
                raise JobError(
                    f"eval.scorers.{name}: a judge that compares two answers says A, B or TIE; take the {name} out"
                )

    def _check_models(self) -> None:
        if self.model and self.models:
            raise JobError("eval.scorers.model: is there beside models; give one of them")
        if not all(model.strip() for model in self.judges):
            raise JobError("eval.scorers.model: is empty; give the judge's id, such as gpt-4o")
        if len(set(self.judges)) < len(self.judges):
            raise JobError("eval.scorers.models: names a model twice")

    def _check_labels(self) -> None:
        if not self.labels:
            return
        if self.scale != (0.0, 1.0):
            raise JobError("eval.scorers.labels: are there beside a scale; give one of them")
        scores = self.label_scores
        if len(scores) < 2 or len({label.casefold() for label in self.labels}) < len(self.labels):
            raise JobError("eval.scorers.labels: at least two different labels are needed")
        if not all(re.fullmatch(r"\w(?:[\w +.-]{0,58}\w)?", label) for label in scores):
            raise JobError("eval.scorers.labels: a label is made of letters, digits, spaces, -, _, + and .")
        if not all(0 <= score <= 1 for score in scores.values()):
            raise JobError("eval.scorers.labels: scores are from 0 to 1")
        if len(set(scores.values())) < 2:
            raise JobError("eval.scorers.labels: all have the same score; give the better ones a higher one")
