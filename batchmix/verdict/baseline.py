"""Chooses the run that a run is compared with: its baseline, as `eval.against` says, or a run that the user has pinned.

The default among nights is the last good one. A night with failures, or one that alarmed, is never the measure of the
next: so a lasting fall alarms until it is over, or until `batchmix baseline` accepts it. A pinned run is overtaken by
the first good run that is significantly better. Otherwise, once a fall was accepted, the nights that follow could rise
and fall back to that level unseen.
"""

from __future__ import annotations

import itertools
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from batchmix.errors import RunError
from batchmix.evaluation.measure import Metrics, read_metrics
from batchmix.formats.amounts import counted
from batchmix.job import CheckedJob
from batchmix.job.eval_table import Eval, median_count, named_run
from batchmix.store.run_folder import Layout, RunFile
from batchmix.verdict.good_runs import GOOD_SHARE, damage, why_not_good
from batchmix.verdict.history import PastRun, past_runs
from batchmix.verdict.pinned import read_pins
from batchmix.verdict.verdict_file import Baseline
from batchmix.verdict.versions import dataset_version, row_digests, target_columns

_DAMAGED = "has files that can't be read"
_PLURALS = {"was": "were", "has": "have", "is": "are", "its": "their"}


def baseline_of(root: Path, job: CheckedJob) -> Baseline | None:
    """Return the baseline of the run in a folder. None if the job has none. Raises `RunError`.

    A job has one if `eval.against` is set, or if one of its runs is pinned. The folder of a baseline that was named by
    the user exists and has been evaluated.
    """
    settings, run = job.eval or Eval(), Layout(root).read_run()
    if run is None:
        return None
    home = root.resolve().parent
    if (path := named_run(settings.against)) is not None:
        return Baseline(shown_run(_evaluated_run(path, "eval.against"), home), "path")
    earlier = earlier_runs(root, run)
    if (pinned := _pinned(root, run)) is None:
        return None if settings.against is None else _chosen(root, run, job, settings.against, earlier)
    better = _better_run(pinned, earlier, job)
    if better is None:
        return Baseline(shown_run(pinned, home), "pinned")
    since = [past for past in earlier if past.started_at >= better.started_at]
    chosen = _chosen(root, run, job, settings.against or "last-good", since)
    note = f"{better.folder.name} was significantly better than the pinned {pinned.name}"
    return msgspec.structs.replace(chosen, note="; ".join(filter(None, (note, chosen.note))))


def judged_against(root: Path, job: CheckedJob) -> Path | None:
    """Return the run with whose answers a judge compares those of the run in a folder. None if there is none yet.

    It is chosen before the run has scores, so that of the good runs, or for `previous` of all, the last one is taken.
    Raises `RunError`.
    """
    settings, run = job.eval or Eval(), Layout(root).read_run()
    if run is None:
        return None
    if (path := named_run(settings.against)) is not None:
        return _evaluated_run(path, "eval.against")
    earlier = earlier_runs(root, run)
    if (pinned := _pinned(root, run)) and _better_run(pinned, earlier, job) is None:
        return pinned
    is_good = _is_no_try if settings.against == "previous" else lambda past: not why_not_good(past, job)
    return next((past.folder for past in reversed(earlier) if is_good(past)), None)


def _is_no_try(past: PastRun) -> bool:
    return not past.run.is_try


def check_baseline(folder: Path, job: CheckedJob) -> None:
    """Raise `RunError` if the run in a folder is to be compared with one that is not there or has not been evaluated.

    The run itself need not have begun.
    """
    settings, root = job.eval or Eval(), folder.resolve().parent
    if (path := named_run(settings.against)) is not None:
        _evaluated_run(path, "eval.against")
    elif (pinned := read_pins(root, job.name).pinned) is not None:
        _evaluated_run(root / pinned, "the pinned baseline")
    elif settings.against is not None:
        others = [
            past
            for past in past_runs(root, job.name)
            if past.folder.resolve() != folder.resolve() and past.run.rehearsal == job.provider.rehearsal
        ]
        last = [past for past in others if not past.run.is_try and past.metrics][-1:]
        good = last if settings.against == "previous" else [past for past in others if not why_not_good(past, job)]
        _check_intact(good)


def _check_intact(good: Sequence[PastRun]) -> None:
    """Raise `RunError` if there are runs that may be a baseline, and not one of them can be read."""
    problem = ""
    for past in reversed(good):
        problem = damage(past.folder)
        if not problem:
            return
    if problem:
        raise RunError(f"{problem}; no other run can be the baseline: restore this one from a copy, or pin another run")


def shown_run(folder: Path, home: Path) -> str:
    """Return a run's folder relative to the folder that holds the runs, or absolute if it is elsewhere."""
    folder = folder.resolve()
    return str(folder.relative_to(home)) if folder.is_relative_to(home) else str(folder)


def _evaluated_run(folder: Path, what: str) -> Path:
    if what == "eval.against":
        hint = 'name another run folder, or "last-good", "previous" or "median:7"'
    else:
        off = shlex.join(["batchmix", "baseline", str(folder), "--clear"])
        hint = f"pin another run with batchmix baseline RUN, or take the pin off with {off}"
    try:
        read_metrics(Layout(folder))
    except RunError as error:
        gone = not (folder / "run.json").exists()
        problem = "is gone, or is no run folder" if gone else str(error).removeprefix(f"{folder}: ")
        raise RunError(f"{folder}: {what} {problem}; {hint}") from error
    if problem := damage(folder):
        raise RunError(f"{problem}; it is {what}; restore it from a copy, or {hint}")
    return folder


def _pinned(root: Path, run: RunFile) -> Path | None:
    """Return the pinned run of the same job, unless it is this one or began after it."""
    home = root.resolve().parent
    pinned = read_pins(home, run.name).pinned
    if pinned is None or home / pinned == root.resolve():
        return None
    folder = _evaluated_run(home / pinned, "the pinned baseline")
    other = Layout(folder).read_run()
    later = other is not None and other.starts and run.starts and other.starts[0].at > run.starts[0].at
    return None if later else folder


def _better_run(pinned: Path, earlier: Sequence[PastRun], job: CheckedJob) -> PastRun | None:
    """Return the first good run that was found to be better than the pinned one since that was pinned."""
    since = read_pins(pinned.parent, job.name).since
    return next((past for past in earlier if _is_better(past, pinned, since) and not why_not_good(past, job)), None)


def _is_better(past: PastRun, pinned: Path, since: str) -> bool:
    """Return whether the verdict on a run, since that time, is that a guarded score is better than in a pinned run."""
    verdict = past.verdict
    if verdict is None or verdict.baseline is None or verdict.evaluated_at < since:
        return False
    if verdict.baseline.how != "pinned" or verdict.baseline.folder(past.folder) != pinned:
        return False
    return any((one.metric, one.verdict, one.group) == ("score", "better", {}) for one in verdict.comparisons)


def _chosen(root: Path, run: RunFile, job: CheckedJob, against: str, earlier: Sequence[PastRun]) -> Baseline:
    """Return the baseline among earlier runs of the job, the latest that will do."""
    home = root.resolve().parent
    if against == "previous":
        last = next((past for past in reversed(earlier) if not past.run.is_try), None)
        if last is None:
            return Baseline("", against, "all earlier runs were only tries" if earlier else "this is the first run")
        return Baseline(shown_run(last.folder, home), against)
    reasons = [(past, why_not_good(past, job)) for past in earlier]
    good = [past for past, reason in reasons if not reason]
    skipped = Counter(reason for _, reason in reasons if reason)
    passed_over = "; ".join(_passed_over(count, "earlier run", reason) for reason, count in skipped.items())
    if not good:
        return Baseline("", against, passed_over or "this is the first run")
    alike = _AlikeRuns(root, run, job.eval or Eval())
    while damage((chosen := _pick(alike, good, median_count(against))).folder):
        if len(good) == 1:
            _check_intact(good)
        good = [past for past in good if past.folder != chosen.folder]
        reasons = [(past, _DAMAGED if past.folder == chosen.folder else reason) for past, reason in reasons]
    after = [reason for past, reason in reasons if reason and past.started_at > chosen.started_at]
    note = "; ".join(_passed_over(number, "later run", reason) for reason, number in Counter(after).items())
    return Baseline(shown_run(chosen.folder, home), against, note)


def _pick(alike: _AlikeRuns, good: Sequence[PastRun], count: int | None) -> PastRun:
    """Return the last of the good runs that is alike, or of `count` of them the one with the median score."""
    pairs = alike.of(reversed(good), count or 1) or [good[-1]]
    return _median(pairs) if count else pairs[0]


def _passed_over(count: int, which: str, reason: str) -> str:
    """Return how many runs were no baseline for one reason, which `why_not_good` gives for a single run."""
    if count > 1:
        reason = " ".join(_PLURALS.get(word, word) for word in reason.replace("only a try", "only tries").split(" "))
    return f"{counted(count, which)} {reason}"


def earlier_runs(root: Path, run: RunFile) -> list[PastRun]:
    """Return the complete and evaluated runs of the same job that began before this one, the oldest first."""
    if not run.starts:
        return []
    began = run.starts[0].at
    return [
        past
        for past in past_runs(root.resolve().parent, run.name)
        if past.folder.resolve() != root.resolve()
        and past.started_at < began
        and past.run.rehearsal == run.rehearsal
        and past.metrics is not None
        and past.metrics.complete
    ]


class _AlikeRuns:
    """Finds runs that have nearly all rows in common with a run: the same ids, with the same targets."""

    def __init__(self, root: Path, run: RunFile, settings: Eval) -> None:
        self._layout = Layout(root)
        self._run = run
        self._settings = settings
        self._version = dataset_version(self._layout, settings, run)
        self._known = {self._version: True}
        """Whether a version of the dataset is alike."""

    def of(self, candidates: Iterable[PastRun], count: int) -> list[PastRun]:
        """Return the first `count` of the candidates that are alike."""
        return list(itertools.islice(filter(self._is_alike, candidates), count))

    def _is_alike(self, past: PastRun) -> bool:
        version = past.verdict.dataset if past.verdict else ""
        if not version or version not in self._known:
            self._known[version] = self._share(past) >= GOOD_SHARE
        return self._known[version]

    def _share(self, past: PastRun) -> float:
        """Return the share of rows that both runs have, of the one that has more."""
        if past.metrics is None:
            return 0.0
        settings = past.metrics.settings
        columns = sorted({*target_columns(self._settings)} & {*target_columns(settings)})
        try:
            ours = _array(row_digests(self._layout, self._settings, self._run, columns))
            theirs = _array(row_digests(Layout(past.folder), settings, past.run, columns))
        except RunError:  # the scores of the earlier run are gone or damaged
            return 0.0
        return len(np.intersect1d(ours, theirs)) / max(1, len(ours), len(theirs))


def _array(digests: Iterator[int]) -> npt.NDArray[np.uint64]:
    return np.fromiter(digests, np.uint64)


def _median(runs: Sequence[PastRun]) -> PastRun:
    """Return the run whose mean score is the median; of two in the middle, the lower one."""
    means = {number: _mean_score(past.metrics) for number, past in enumerate(runs)}
    middle = statistics.median_low(means.values())
    return next(runs[number] for number, mean in means.items() if mean == middle)


def _mean_score(metrics: Metrics | None) -> float:
    """Return the mean of a run's scores, over all models and scorers."""
    scores = metrics.scores if metrics else ()
    means = [scored.score.mean for scored in scores if not scored.group and scored.score.mean is not None]
    return statistics.fmean(means) if means else 0.0
