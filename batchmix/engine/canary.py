"""The canary: random rows that are sent first. Their answers give a forecast of the cost of all other rows."""

from __future__ import annotations

from array import array

import msgspec

from batchmix.engine.distinct import DistinctCounter, distinct_warning
from batchmix.engine.extrapolation import Bounds, draw_positions, estimate_total
from batchmix.engine.resume import PendingWork
from batchmix.formats.amounts import counted, usd
from batchmix.job import CheckedJob, Model, Price
from batchmix.load import Dataset
from batchmix.prices.cost import Prices
from batchmix.records import CanaryDraw, Request
from batchmix.store.first_rows import FirstRows
from batchmix.store.row_costs import RowCost, read_row_costs
from batchmix.store.view import View


class Forecast(msgspec.Struct, frozen=True):
    """A forecast of the tokens, cost and duration of the requests that a run has left."""

    rows: int
    """Number of rows in the canary, summed over all models."""
    answered: int
    """Number of these rows that have all their answers, with token counts."""
    requests: int
    """Number of requests that are still to be sent."""
    completion_tokens: Bounds | None
    """Completion tokens of the remaining requests. None if too few rows of the canary have answers."""
    cost_usd: Bounds | None
    """Cost of the remaining requests. None if too few rows of the canary have answers, or if a price is unknown."""
    spent_usd: float | None
    """Cost of all answers so far, and of the attempts that were billed without a valid answer. None if unknown."""
    least_s: float
    """Lower bound on the remaining time in seconds, from the job's limits and the latency of the canary's answers."""
    different: int = 0
    """Number of different requests over all rows and models. The samples of a row count once."""
    billed_requests: Bounds | None = None
    """Number of requests of the remaining rows that will be billed: also repairs, and retries that are billed. None as
    in `completion_tokens`."""
    duplicates_warning: str = msgspec.field(default="", name="sameness")  # the key in `--json`
    """A warning that suspiciously many requests are the same; empty if there is none."""

    def __repr__(self) -> str:
        if self.completion_tokens is None:
            return f"<Forecast: {counted(self.requests, 'request')} left; too few answers to forecast their cost>"
        tokens, cost = self.completion_tokens, self.cost_usd
        price = cost and f"{usd(cost.estimate)} ({usd(cost.low)} to {usd(cost.high)})"
        return (
            f"<Forecast: {counted(self.requests, 'request')} left,"
            f" {tokens.estimate:,.0f} tokens of answers ({tokens.low:,.0f} to {tokens.high:,.0f}),"
            f" cost {price or 'unknown'}, at least {self.least_s:,.0f} s>"
        )


def draw_canary(dataset: Dataset, work: PendingWork, job: CheckedJob, count: int) -> None:
    """Draw `count` random rows for each model, and limit `work` to the shards of these rows.

    With `reuse.dedupe`, only the first of several rows with the same request can be drawn.
    """
    seed = work.run.accepted
    work.run.draw({model.name: _draw(_Sizes(dataset, model, job), count, seed) for model in dataset.models})
    drawn_shards = {row // work.run.shard_rows for draw in work.run.canary.values() for row, _ in draw.rows}
    work.limit_to(drawn_shards)


class _Sizes:
    """The rows of one model that can be drawn, each with the estimated prompt tokens of all its samples."""

    def __init__(self, dataset: Dataset, model: Model, job: CheckedJob) -> None:
        self.rows, self.tokens = array("q"), array("q")
        self.hashes = DistinctCounter()
        firsts = FirstRows() if job.reuse.dedupe else None
        for index in range(len(dataset.scan.shards)):
            for batch in dataset.requests(index, model):
                for request in batch:
                    if not isinstance(request, Request) or request.sample:
                        continue
                    if firsts is None or firsts.first(request.hash, request.row) == request.row:
                        self.rows.append(request.row)
                        self.hashes.add(request.hash)
                        self.tokens.append(request.prompt_tokens * job.samples)


def _draw(sizes: _Sizes, count: int, seed: str) -> CanaryDraw:
    rows = tuple((sizes.rows[at], sizes.tokens[at]) for at in draw_positions(sizes.tokens, count, seed))
    return CanaryDraw(len(sizes.rows), sum(sizes.tokens), rows, len(sizes.hashes))


def forecast(view: View, job: CheckedJob) -> Forecast:
    """Forecast tokens, cost and duration of the remaining requests, from the answers to the run's last canary."""
    models = job.models or tuple(Model(name, name, {}, job.limits) for name in view.run.models)
    prices = Prices(view.run.prices, models)
    rows = sorted({row for draw in view.run.canary.values() for row, _ in draw.rows})
    answers: dict[tuple[str, int], list[RowCost]] = {}
    for cost in read_row_costs(view, rows, prices):
        answers.setdefault((cost.model, cost.row), []).append(cost)
    lanes = []
    for model in models:
        draw = view.run.canary[model.name]
        whole = [
            (size, results)
            for row, size in draw.rows
            if len(results := answers.get((model.name, row), [])) == job.samples
        ]
        lanes.append(_LaneForecast(draw, whole, model, prices.price_of(model.name)))
    draws = view.run.canary.values()
    different = sum(draw.total_rows if draw.different is None else draw.different for draw in draws)
    return Forecast(
        rows=sum(len(draw.rows) for draw in draws),
        answered=sum(all(cost.is_ok for cost in costs) for lane in lanes for _, costs in lane.answers),
        requests=view.unanswered,
        completion_tokens=_sum([lane.completion_tokens() for lane in lanes]),
        cost_usd=_sum([lane.cost_usd() for lane in lanes]),
        spent_usd=_spent(view),
        least_s=max((lane.least_s(job.samples) for lane in lanes), default=0.0),
        different=different,
        billed_requests=_sum([lane.billed_requests() for lane in lanes]),
        duplicates_warning=distinct_warning(different, sum(draw.total_rows for draw in draws)),
    )


class _LaneForecast(msgspec.Struct, frozen=True):
    """A forecast for the rows of one model that are not in the canary, from the answers to the rows that are."""

    draw: CanaryDraw
    answers: list[tuple[int, list[RowCost]]]
    """Estimated prompt tokens of each row that has all its results, and what they took, in the order of the draw."""
    model: Model
    price: Price | None

    def completion_tokens(self) -> Bounds | None:
        return self._rest([sum(cost.completion_tokens for cost in costs) for _, costs in self.answers], 0.0)

    def billed_requests(self) -> Bounds | None:
        return self._rest([sum(cost.requests for cost in costs) for _, costs in self.answers], 0.0)

    def cost_usd(self) -> Bounds | None:
        costs = [[cost.cost_usd for cost in of_row] for _, of_row in self.answers]
        known = [[usd for usd in of_row if usd is not None] for of_row in costs]
        if self.price is None or known != costs:
            return None
        return self._rest([sum(of_row) for of_row in known], self.price.input / 1e6 * self._prompt_ratio())

    def least_s(self, samples: int) -> float:
        """Return a lower bound on the seconds for the other rows, from the model's limits and the mean latency."""
        limits, rows = self.model.limits, self.draw.total_rows - len(self.draw.rows)
        taken = [cost for _, costs in self.answers for cost in costs]
        requests = rows * (sum(cost.requests for cost in taken) / len(self.answers) if taken else samples)
        latencies = [cost.latency_s for cost in taken if cost.latency_s is not None]
        mean_s = sum(latencies) / len(latencies) if latencies else 0.0
        completion = self.completion_tokens()
        prompt = (self.draw.prompt_tokens - sum(size for _, size in self.draw.rows)) * self._prompt_ratio()
        tokens = prompt + (completion.estimate if completion else 0.0)
        times = [requests * mean_s / limits.concurrency]
        if limits.requests_per_minute:
            times.append(requests / limits.requests_per_minute * 60)
        if limits.tokens_per_minute:
            times.append(tokens / limits.tokens_per_minute * 60)
        return max(times)

    def _prompt_ratio(self) -> float:
        """Return the ratio of reported to estimated prompt tokens."""
        counted = sum(cost.prompt_tokens for _, costs in self.answers for cost in costs)
        return counted / sum(size for size, _ in self.answers) if self.answers else 1.0

    def _rest(self, measured: list[float], each: float) -> Bounds | None:
        """Forecast the total of a quantity, such as the cost, over the rows that are not in the canary.

        `measured` is the quantity for each answered row. `each` is the part of it that is certain per prompt token.
        """
        predicted = [size * each for size, _ in self.answers]
        bounds = estimate_total(predicted, measured, self.draw.prompt_tokens * each, self.draw.total_rows)
        done = sum(measured)
        return bounds and Bounds(bounds.estimate - done, bounds.low - done, bounds.high - done)


def _spent(view: View) -> float | None:
    costs = [usd for usd in (view.totals.cost_usd, view.totals.billed_retries_usd) if usd is not None]
    return sum(costs) if costs else None


def _sum(parts: list[Bounds | None]) -> Bounds | None:
    whole = Bounds(0.0, 0.0, 0.0)
    for part in parts:
        if part is None:
            return None
        whole += part
    return whole
