"""Compares the scores of a run with the labels that people gave to the same answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from batchmix.engine import reader
from batchmix.errors import RunError, UsageError
from batchmix.evaluation.judge import JudgeUsage
from batchmix.evaluation.measure import Metrics, read_metrics
from batchmix.evaluation.scoring import open_scores
from batchmix.formats.amounts import counted
from batchmix.formats.display import quoted
from batchmix.formats.text import text_of
from batchmix.load import HumanLabel, HumanLabels, read_labels
from batchmix.scorers.indirect import Judge
from batchmix.scorers.settings import ScorerSettings
from batchmix.statistics.kappa import cohen_kappa
from batchmix.store.run_folder import Layout

_KEYS = ("row", "custom_id", "model", "sample")
_MAX_CATEGORIES = 20
"""The most different scores that are compared one by one. More are compared only as good or bad."""
_MAX_NAMED = 10
_GOOD, _BAD = "good", "bad"
_WORDS = {
    **dict.fromkeys(("pass", "passed", "true", "yes", "good", "right", "correct", "ok"), 1.0),
    **dict.fromkeys(("fail", "failed", "false", "no", "bad", "wrong", "incorrect"), 0.0),
}
"""The scores of labels that are words, unless the judge's own labels or `values` say otherwise."""


class ConfusionCell(msgspec.Struct, frozen=True):
    """How often people gave one label where the scorer gave another, or the same."""

    label: str
    score: str
    count: int


class ScorerCalibration(msgspec.Struct, frozen=True):
    """How far the scores of one scorer agree with the labels of people."""

    scorer: str
    n: int
    """The number of answers with a label and a score."""
    agreement: float | None
    """The share of these on which both are the same."""
    kappa: float | None
    """Cohen's kappa, the agreement beyond chance. None if only one category was given."""
    weighted: bool
    """Whether the kappa counts how far two grades are apart, by the square of their difference."""
    true_positive_rate: float | None
    """The share that the scorer finds good of the answers that people find good."""
    false_positive_rate: float | None
    """The share that the scorer finds good of the answers that people find bad."""
    unscored: int
    """The number of answers with a label, but without a score."""
    confusion: tuple[ConfusionCell, ...]
    contradicted: float | None = None
    """Of a judge of pairs, the share of pairs whose two orders contradict each other."""
    position_bias: float | None = None
    """Of a judge of pairs, the share decided for the first place, less the share for the second one."""


class Calibration(msgspec.Struct, frozen=True):
    """How far the scorers of a run agree with people.

    >>> _ = Path("labels.csv").write_text("row,label\\n0,good\\n")
    >>> _ = bm.evaluate(run, [{"kind": "regex", "pattern": "[a-z]"}])
    >>> calibration = bm.calibrate(run, "labels.csv")
    >>> [(cell.label, cell.score, cell.count) for cell in calibration.scorers[0].confusion]
    [('1', '1', 1)]
    """

    folder: Path
    labels: int
    """The number of labels in the file."""
    threshold: float
    """The score from which on an answer counts as good."""
    scorers: tuple[ScorerCalibration, ...]
    missing: tuple[str, ...]
    """The first labels of answers that the run does not have, or has in other words."""
    missing_count: int


class _Pair(NamedTuple):
    """One answer's label and score, each as a category and as a number from 0 to 1."""

    label: str
    label_value: float
    score: str
    score_value: float


class _Labelled(NamedTuple):
    label: HumanLabel
    score: dict[str, Any]


def calibrated(folder: Path, labels_path: str, column: str = "label", threshold: float = 0.5) -> Calibration:
    """Compare an evaluated run's scores with labels from a file. Raises `UsageError`."""
    if not 0 <= threshold <= 1:  # nan is not either
        raise UsageError(f"threshold: {threshold:g} is no score from 0 to 1")
    metrics, labels = read_metrics(Layout(folder)), read_labels(labels_path, column)
    _check_apart(folder, metrics, labels)
    names = [scorer.name for scorer in metrics.settings.scorers]
    if not names:
        raise RunError(f"{folder}: has no scores; run batchmix eval with scorers")
    labelled: list[list[_Labelled]] = [[] for _ in names]
    used: set[tuple[str, ...]] = set()
    for result, scores in _scored_results(folder, len(names)):
        label = labels.of(result)
        if label is None or not label.is_of(result["response"]):
            continue
        used.add(tuple(text_of(result[name]) for name in labels.columns))
        for kept, score in zip(labelled, scores, strict=True):
            kept.append(_Labelled(label, score))
    if not used:
        raise RunError(
            f"{labels_path}: none of its {counted(len(labels.by_answer), 'label')} is that of an answer in {folder}; do"
            f" its columns {' and '.join(labels.columns)} name the answers of this run?"
        )
    compared = [
        (config, each)
        for config, each in zip(metrics.settings.scorers, labelled, strict=True)
        if isinstance(config, Judge) or _are_scores(each)
    ]
    if not compared:
        raise RunError(f"{labels_path}: its labels are on another scale than the scores, which are from 0 to 1")
    for config, _ in compared:
        _check_kinds(config, labels)
    missing = [key for key in labels.by_answer if key not in used]
    judges = {judge.scorer: judge for judge in metrics.judges}
    return Calibration(
        folder=folder,
        labels=len(labels.by_answer),
        threshold=threshold,
        scorers=tuple(_of_scorer_config(config, each, threshold, judges.get(config.name)) for config, each in compared),
        missing=tuple(", ".join(map("=".join, zip(labels.columns, key, strict=True))) for key in missing[:_MAX_NAMED]),
        missing_count=len(missing),
    )


def _are_scores(labelled: Sequence[_Labelled]) -> bool:
    """Return whether the labels can be compared with scores that are no grades: numbers from 0 to 1, or words."""
    return all(each.label.value is None or 0 <= each.label.value <= 1 for each in labelled)


def _check_apart(folder: Path, metrics: Metrics, labels: HumanLabels) -> None:
    if len(metrics.models) > 1 and "model" not in labels.columns:
        raise RunError(f"{folder}: has the answers of {len(metrics.models)} models; the labels need a column model")


def _check_kinds(config: ScorerSettings, labels: HumanLabels) -> None:
    """Raise `RunError` if a number in the file may be a grade of the judge's scale, or mean good or bad."""
    if not isinstance(config, Judge) or config.label_scores or config.scale == (0.0, 1.0):
        return
    worst, best = config.scale
    numbers = [label for label in labels.by_answer.values() if label.value is not None]
    word = next((label for label in labels.by_answer.values() if label.value is None), None)
    if numbers and word:
        number = numbers[0]
        raise RunError(
            f"{word.place}: the label {quoted(word.text)} is a word, and {quoted(number.text)} ({number.place})"
            f" a number, so it is unclear whether numbers are grades from {worst:g} to {best:g} of {config.name};"
            " give all labels as grades, or all as words"
        )
    if numbers and all(label.value in {0.0, 1.0} and worst <= label.value <= best for label in numbers):
        raise RunError(
            f"{numbers[0].place}: the label {quoted(numbers[0].text)} may be a grade from {worst:g} to {best:g} of"
            f" {config.name}, or mean good or bad; write good and bad, or label answers with other grades too"
        )


def _scored_results(folder: Path, scorers: int) -> Iterator[tuple[dict[str, Any], Sequence[dict[str, Any]]]]:
    """Yield each result with the rows of its scores, in order."""
    with open_scores(Layout(folder)) as file:
        scores = _batched(file, scorers)
        for batch in reader.results(folder, [*_KEYS, "response"]):
            for result in batch.to_pylist():
                found = next(scores, None)
                if found is None or any(score[name] != result[name] for score in found for name in _KEYS):
                    raise RunError(f"{folder}: has changed since it was evaluated; run batchmix eval {folder} again")
                yield result, found


def _batched(file: Any, scorers: int) -> Iterator[Sequence[dict[str, Any]]]:
    for batch in file.iter_batches(4_096 * scorers, columns=[*_KEYS, "score", "extracted"]):
        rows = batch.to_pylist()
        yield from (rows[at : at + scorers] for at in range(0, len(rows), scorers))


def _of_scorer_config(
    config: ScorerSettings, labelled: list[_Labelled], threshold: float, usage: JudgeUsage | None
) -> ScorerCalibration:
    scored = [each for each in labelled if each.score["score"] is not None]
    are_grades = _are_grades(config, scored)
    pairs = [_pair(config, each, are_grades=are_grades) for each in scored]
    if len({name for pair in pairs for name in (pair.label, pair.score)}) > _MAX_CATEGORIES:
        are_grades = False
        pairs = [_as_good_or_bad(pair, threshold) for pair in pairs]
    elif isinstance(config, Judge) and not config.label_scores and not are_grades:
        pairs = [_as_good_or_bad(pair, threshold) for pair in pairs]
    confusion = Counter((pair.label, pair.score) for pair in pairs)
    values = {name: value for pair in pairs for name, value in (pair[:2], pair[2:])} if are_grades else None
    good = [pair.score_value >= threshold for pair in pairs if pair.label_value >= threshold]
    bad = [pair.score_value >= threshold for pair in pairs if pair.label_value < threshold]
    return ScorerCalibration(
        scorer=config.name,
        n=len(pairs),
        agreement=_share([pair.label == pair.score for pair in pairs]),
        kappa=cohen_kappa(confusion, values),
        weighted=are_grades,
        true_positive_rate=_share(good),
        false_positive_rate=_share(bad),
        unscored=len(labelled) - len(scored),
        confusion=tuple(ConfusionCell(*names, count) for names, count in sorted(confusion.items())),
        contradicted=usage.contradicted if usage else None,
        position_bias=usage.position_bias if usage else None,
    )


def _are_grades(config: ScorerSettings, labelled: Sequence[_Labelled]) -> bool:
    """Return whether people gave grades of the judge's scale, rather than only 0 and 1 or words for good and bad."""
    if not isinstance(config, Judge) or config.label_scores:
        return False
    (worst, best), numbers = config.scale, {each.label.value for each in labelled}
    if None in numbers or (numbers <= {0.0, 1.0} and config.scale != (0.0, 1.0)):
        return False
    for label, _ in labelled:
        if label.value is not None and not worst <= label.value <= best:
            raise RunError(
                f"{label.place}: the label {label.value:g} is not on the judge's scale from {worst:g} to {best:g}"
            )
    return True


def _pair(config: ScorerSettings, labelled: _Labelled, *, are_grades: bool) -> _Pair:
    score = labelled.score
    if isinstance(config, Judge) and config.label_scores:
        return _pair_of_labels(config, labelled)
    if are_grades and isinstance(config, Judge):
        worst, best = config.scale
        number = labelled.label.value or 0.0
        grade = score["score"] * (best - worst) + worst
        return _Pair(f"{number:g}", (number - worst) / (best - worst), f"{grade:g}", score["score"])
    value = _value_of(config, labelled.label)
    return _Pair(f"{value:g}", value, f"{score['score']:g}", score["score"])


def _pair_of_labels(config: Judge, labelled: _Labelled) -> _Pair:
    known = {label.casefold(): label for label in config.label_scores}
    given = labelled.label
    label = known.get(given.text.casefold())
    if label is None:
        value = _value_of(config, given)
        label = next((name for name, score in config.label_scores.items() if score == value), None)
    if label is None:
        raise RunError(
            f"{given.place}: the label {quoted(given.text)} is none of those of {config.name}, which are"
            f" {', '.join(config.label_scores)}"
        )
    score = labelled.score
    shown = score["extracted"] if score["extracted"] in config.label_scores else f"{score['score']:g}"
    return _Pair(label, config.label_scores[label], shown, score["score"])


def _value_of(config: ScorerSettings, label: HumanLabel) -> float:
    value = _WORDS.get(label.text.casefold()) if label.value is None else label.value
    if value is None:
        raise RunError(
            f"{label.place}: the label {quoted(label.text)} is neither a number nor a word such as good, bad, pass or"
            f" fail, and cannot be compared with {config.name}"
        )
    return value


def _as_good_or_bad(pair: _Pair, threshold: float) -> _Pair:
    names = (_GOOD if value >= threshold else _BAD for value in (pair.label_value, pair.score_value))
    label, score = names
    return _Pair(label, pair.label_value, score, pair.score_value)


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
