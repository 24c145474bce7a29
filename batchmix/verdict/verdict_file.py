"""Keeps the verdict on a run in `evaluation/verdict.json`: whether it passed, why not, and what its baseline was."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from batchmix import __version__
from batchmix.comparison.alarms import Alarm
from batchmix.comparison.verdicts import LEVEL, Comparison
from batchmix.errors import RunError
from batchmix.evaluation.measure import Metrics
from batchmix.formats.text import json_file
from batchmix.store.filesystem import is_ours, replace_file
from batchmix.store.run_folder import Layout

_VERSION = 1


class Baseline(msgspec.Struct, frozen=True):
    """The run that a run is compared with, and how it was chosen."""

    run: str
    """The run folder: relative to the folder that holds the evaluated run, or else absolute. Empty if there is none."""
    how: str
    """`pinned`, `last-good`, `previous`, `median:7` or the like, or `path`."""
    note: str = ""
    """What there is to say about the choice, such as why there is no baseline. Empty if nothing."""

    @property
    def shown(self) -> str:
        """The baseline in words."""
        if not self.run:
            return f"no baseline yet: {self.note}"
        return f"baseline: {self.run} ({self.how}){f'; {self.note}' if self.note else ''}"

    def folder(self, run: Path) -> Path | None:
        """Return the folder of the baseline of the run in a folder. None if there is none."""
        return run.resolve().parent / self.run if self.run else None


class ScoreLine(msgspec.Struct, frozen=True):
    """The mean score of one model by one scorer, over all rows, and that of the baseline over the rows in common."""

    model: str
    scorer: str
    score: float | None
    low: float | None
    high: float | None
    n: int
    before: float | None = None
    difference: float | None = None
    """The later mean minus the earlier one, over the rows in common."""
    verdict: str = ""


class ScoreTrend(msgspec.Struct, frozen=True):
    """Whether a score has been falling over many nights."""

    model: str
    scorer: str
    alarm: bool
    nights: int
    """The number of nights that could be used: since the dataset changed, or a new level was accepted."""
    statistic: float
    """The largest fall of the last nights, in standard errors. It is an alarm if it is larger than the bound."""
    bound: float | None
    """None if there are too few nights yet."""
    since: str = ""
    """The run with which the lower scores begin. Empty without a fall."""
    before: float | None = None
    after: float | None = None


class Verdict(msgspec.Struct, frozen=True):
    """The content of `evaluation/verdict.json`."""

    passed: bool
    alarms: tuple[Alarm, ...]
    against: str
    """What the job says of its baseline (`eval.against`). Empty if it has none."""
    baseline: Baseline | None
    scores: tuple[ScoreLine, ...]
    comparisons: tuple[Comparison, ...]
    trends: tuple[ScoreTrend, ...]
    level: float | None
    """The significance level of the comparison. None without one."""
    dataset: str
    """The version of the dataset: a digest of the rows' ids, targets and weights."""
    prompt: str
    """The version of what requests are made of: prompt, models, parameters, and schema."""
    starts: int
    """The number of starts that the run had. After another start, the verdict does not hold any more."""
    evaluated_at: str
    version: int = _VERSION
    batchmix: str = __version__


def read_verdict(layout: Layout) -> Verdict | None:
    """Return the verdict on a run. None if there is none, or if it can't be read."""
    try:
        verdict = msgspec.json.decode(layout.verdict_json.read_bytes(), type=Verdict)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return verdict if verdict.version == _VERSION else None


def level_of(layout: Layout, baseline: Path) -> float:
    """Return the level at which a run is compared with a baseline: as in its verdict, if that has the same baseline."""
    verdict = read_verdict(layout)
    if verdict is None or verdict.level is None or verdict.baseline is None:
        return LEVEL
    judged = verdict.baseline.folder(layout.root)
    return verdict.level if judged is not None and judged.resolve() == baseline.resolve() else LEVEL


def remove_verdict(layout: Layout) -> None:
    """Remove the verdict on a run, because a new one is to be found. Raises `RunError` if the file is not ours."""
    if not is_ours(layout.verdict_json, is_verdict):
        raise RunError(f"{layout.verdict_json}: was not written by batchmix; move it away")
    layout.verdict_json.unlink(missing_ok=True)


def write_verdict(layout: Layout, verdict: Verdict) -> None:
    """Write the verdict on a run, with secrets masked. Raises `NoSpace` and `DiskError`."""
    text = json_file(msgspec.to_builtins(verdict))
    replace_file(layout.verdict_json, layout.redacted(text), layout.file_mode)


def score_lines(metrics: Metrics, comparisons: tuple[Comparison, ...]) -> tuple[ScoreLine, ...]:
    """Return the scores of a run over all rows, each with its comparison."""
    found = {(one.model, one.scorer): one for one in comparisons if one.metric == "score" and not one.group}
    lines = []
    for scored in metrics.scores:
        if scored.group:
            continue
        compared, score = found.get((scored.model, scored.scorer)), scored.score
        line = ScoreLine(scored.model, scored.scorer, score.mean, score.low, score.high, score.n)
        if compared is not None:
            before = compared.paired.before if compared.paired else None
            change = compared.paired.difference if compared.paired else None
            line = msgspec.structs.replace(line, before=before, difference=change, verdict=compared.verdict)
        lines.append(line)
    return tuple(lines)


def is_verdict(path: Path) -> bool:
    """Return whether a file is a verdict that batchmix wrote."""
    content = json.loads(path.read_bytes())
    return isinstance(content, dict) and "batchmix" in content and "passed" in content
