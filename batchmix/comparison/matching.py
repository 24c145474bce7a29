"""Decides which models and scorers of two runs are compared with each other, and says why others are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from batchmix.comparison.pairing import ComparedRun, Pairing
from batchmix.errors import RunError
from batchmix.evaluation.measure import Metrics
from batchmix.job.eval_table import Eval


class Match(msgspec.Struct, frozen=True):
    """Which models and scorers of the two runs are compared, and why others are not."""

    models: dict[str, str]
    """For each model of the later run that is compared, the one of the earlier run."""
    scorers: list[str]
    only_after: dict[str, str]
    """For each model that only the later run has, why it is not compared."""
    only_before: dict[str, str]
    other_scorers: dict[str, str]
    """For each scorer of the later run that is not compared, why."""
    gone_scorers: dict[str, str]
    is_same_run: bool

    @property
    def left_out(self) -> Iterator[str]:
        """Yield a message for each scorer and each model that is not compared."""
        for name, why in (self.other_scorers | self.gone_scorers).items():
            yield f"scorer {name}: {why}"
        for name, why in (self.only_after | self.only_before).items():
            yield f"model {name}: {why}"

    @property
    def renamed(self) -> Iterator[str]:
        """Yield a message for each model that has another name in the earlier run."""
        for model, before in self.models.items():
            if model != before:
                yield f"model {model} is compared with {before} of the {'same' if self.is_same_run else 'earlier'} run"


def matched(old: ComparedRun, new: ComparedRun, pairing: Pairing) -> Match:
    """Return which models and scorers of two runs are compared. Raises `RunError` if `pairing` names unknown models."""
    models = _matched_models(old, new, pairing)
    other_scorers, gone_scorers = _other_scorers(old, new)
    later = [] if pairing.models and _is_same_run(old, new) else new.models
    there = {*models.values(), *new.models, *new.metrics.left_out}
    gone = [] if not later else [model for model in old.models if model not in there]
    return Match(
        models=models,
        scorers=[
            scorer.name
            for scorer in new.metrics.settings.scorers
            if scorer.name not in other_scorers and not scorer.compares
        ],
        only_after={model: "the earlier run has no such model" for model in later if model not in models},
        only_before=dict.fromkeys(gone, "the later run has no such model"),
        other_scorers=other_scorers,
        gone_scorers=gone_scorers,
        is_same_run=_is_same_run(old, new),
    )


def _is_same_run(old: ComparedRun, new: ComparedRun) -> bool:
    return old.layout.root.resolve() == new.layout.root.resolve()


def _matched_models(old: ComparedRun, new: ComparedRun, pairing: Pairing) -> dict[str, str]:
    """Return the earlier name of each model that is compared, by its later name."""
    given = {model: before for before, model in pairing.models}
    for before, model in pairing.models:
        for name, run, which in ((before, old, "earlier"), (model, new, "later")):
            if name not in run.models:
                raise RunError(f"--as {before}={model}: the {which} run has no model {name}; {_has(run)}")
        if given[model] != before:
            raise RunError(f"--as {before}={model}: {model} is compared with {given[model]} already; give one of them")
    if given and _is_same_run(old, new):
        return given
    if not given and len(old.models) == len(new.models) == 1:
        return {new.models[0]: old.models[0]}
    return {model: given.get(model, model) for model in new.models if model in given or model in old.models}


def _has(run: ComparedRun) -> str:
    return f"it has {', '.join(run.models)}"


def _other_scorers(old: ComparedRun, new: ComparedRun) -> tuple[dict[str, str], dict[str, str]]:
    """Return the scorers that can't be compared and why: those of the later run, and those that it no longer has."""
    before = {scorer.name for scorer in old.metrics.settings.scorers}
    other = {}
    for scorer in new.metrics.settings.scorers:
        if scorer.compares:
            continue
        if scorer.name not in before:
            other[scorer.name] = "the earlier run has no such scores; batchmix eval scores it"
        elif changes := scorer_changes(scorer.name, old.metrics, new.metrics):
            other[scorer.name] = (
                f"the scorer has changed since ({', '.join(changes)}); batchmix eval {old.layout.root} JOB.toml scores"
                " the earlier run with it"
            )
    names = {scorer.name for scorer in new.metrics.settings.scorers}
    gone = [scorer.name for scorer in old.metrics.settings.scorers if scorer.name not in names]
    return other, dict.fromkeys(gone, "the later run has no such scores")


def scorer_changes(name: str, before: Metrics, after: Metrics) -> list[str]:
    """Return what has changed of a scorer, which both runs have, so that its scores no longer mean the same.

    That is its settings, and the code of an own function. Runs of older versions of batchmix do not know their code.
    """
    old, new = (_meaning(name, metrics.settings) for metrics in (before, after))
    if old["kind"] != new["kind"]:
        return ["kind"]
    changes = [key for key, value in new.items() if value != old.get(key)]
    digests = {metrics.code[name] for metrics in (before, after) if metrics.code.get(name)}
    if len(digests) > 1 and "python" not in changes:
        changes.append(f"the code of the module {new['python'].partition(':')[0]}")
    return changes


def _meaning(name: str, settings: Eval) -> dict[str, Any]:
    """Return the settings of a scorer that decide what its scores mean."""
    scorer = next(one for one in settings.scorers if one.name == name)
    found = msgspec.to_builtins(scorer) | {"target": settings.target_of(scorer)}
    return {key: value for key, value in found.items() if key not in scorer.beside_the_score}
