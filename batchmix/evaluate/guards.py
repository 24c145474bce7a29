"""What must hold of a run's metrics by itself: the thresholds of `[[eval.guards]]`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batchmix.evaluate.measure import Metrics, ModelMetrics
from batchmix.job.eval_table import Eval, Guard


def guarded(guards: Sequence[Guard], scorers: Sequence[str], models: Sequence[str]) -> Iterator[tuple[Guard, str, str]]:
    """Yield each guard with the model and the scorer that it is about; no scorer for metrics that need none."""
    for guard in guards:
        for model in models if guard.model is None else [guard.model] * (guard.model in models):
            if guard.metric != "score":
                yield guard, model, ""
            else:
                for scorer in scorers if guard.scorer is None else [guard.scorer] * (guard.scorer in scorers):
                    yield guard, model, scorer


def missed(metrics: Metrics) -> list[str]:
    """Return which thresholds a run misses, in words."""
    asked: Eval = metrics.asked
    scorers = [scorer.name for scorer in asked.scorers]
    lines = []
    for guard, model, scorer in guarded(asked.guards, scorers, [found.model for found in metrics.models]):
        value = _value(metrics, guard, model, scorer)
        what = f"{model}: {scorer or guard.metric}"
        if value is None:
            lines += [f"{what} has no value"] * (guard.min is not None or guard.max is not None)
        elif guard.min is not None and value < guard.min:
            lines.append(f"{what} is {value:.4g}, less than {guard.min:g}")
        elif guard.max is not None and value > guard.max:
            lines.append(f"{what} is {value:.4g}, more than {guard.max:g}")
    return lines


def _value(metrics: Metrics, guard: Guard, model: str, scorer: str) -> float | None:
    if guard.metric == "score":
        return next(
            (found.score.mean for found in metrics.scores if (found.model, found.scorer) == (model, scorer)), None
        )
    found = next(found for found in metrics.models if found.model == model)
    return model_value(found, guard.metric)


def model_value(found: ModelMetrics, metric: str) -> float | None:
    """Return a model's metric, by result: costs are those of a result, latencies and lengths means over answers."""
    values = {
        "answered": found.answered,
        "refused": found.refused,
        "cost_usd": None if found.cost_usd is None else found.cost_usd / max(1, found.results),
        "latency_s": found.latency_s["mean"] if found.latency_s else None,
        "response_chars": found.response_chars,
    }
    return values[metric]
