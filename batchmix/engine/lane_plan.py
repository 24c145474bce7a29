"""The requests that a run would send to one model, with bounds on their cost and time."""

from __future__ import annotations

import msgspec

from batchmix.job import Limits, Price
from batchmix.records import Request

_PROMPTS = (0.5, 1.5)
"""Factors for the bounds on prompt tokens, which are estimated from bytes. In most languages the real number lies
between half of the estimate and one and a half times the estimate."""
_TOLD_TOKENS = 1000
"""More tokens than a repair's prompt has beside the answer: path and sentence are cut to some 800 characters."""


class LanePlan(msgspec.Struct):
    """The requests that a run would send to one model, with their estimated cost and time."""

    model: str
    requests: int = 0
    prompt_tokens: int = 0
    """Number of prompt tokens, estimated from the size of the prompts."""
    max_tokens: int | None = 0
    """Upper bound on the tokens of all answers without repairs. None if a request sets no maximum."""
    largest_cap: int | None = None
    """The largest maximum number of tokens that a request sets for its answer. None if no request sets any."""
    least_usd: float | None = None
    """Lower bound on the cost, for short prompts and answers of one token. None if the price is unknown."""
    most_usd: float | None = None
    """Upper bound on the cost, for long prompts, the longest answers, and all repairs of invalid answers that the job
    allows. None if the price is unknown or a request sets no maximum."""
    most_without_repairs_usd: float | None = None
    """Upper bound on the cost if each first answer is valid. None as in `most_usd`."""
    least_s: float | None = None
    """Lower bound on the duration in seconds, from the job's limits per minute. None without such limits."""

    def count(self, request: Request) -> None:
        """Add a request to the counts."""
        self.requests += 1
        self.prompt_tokens += request.prompt_tokens
        if self.max_tokens is not None:
            self.max_tokens = None if request.max_tokens is None else self.max_tokens + request.max_tokens
        if request.max_tokens is not None:
            self.largest_cap = max(self.largest_cap or 0, request.max_tokens)

    def finish(self, price: Price | None, limits: Limits, repair: int) -> None:
        """Set the bounds on cost and duration, once all requests are counted.

        `repair` says how often a row may be asked to repair its answer.
        """
        short, long = (self.prompt_tokens * share for share in _PROMPTS)
        if price:
            answers = self.requests if self.max_tokens is None else min(self.requests, self.max_tokens)
            self.least_usd = (short * price.input + answers * price.output) / 1e6
            if self.max_tokens is not None:
                self.most_without_repairs_usd = (long * price.input + self.max_tokens * price.output) / 1e6
                self.most_usd = self.most_without_repairs_usd + self._most_repairs_usd(price, repair)
        times = []
        if limits.requests_per_minute:
            times.append(self.requests / limits.requests_per_minute * 60)
        if limits.tokens_per_minute:
            times.append((short + self.requests) / limits.tokens_per_minute * 60)
        self.least_s = max(times, default=None)

    def _most_repairs_usd(self, price: Price, repair: int) -> float:
        """Return the cost if each answer is cut off, requested again with twice the limit, and then never valid.

        Each repair has all earlier answers in its prompt, with what is wrong with them.
        """
        if not repair or self.max_tokens is None:
            return 0.0
        longest = 2 * self.max_tokens
        added = (longest + self.requests * _TOLD_TOKENS) * repair * (repair + 1) / 2
        prompts = self.prompt_tokens * _PROMPTS[1] * (1 + repair) + added
        return (prompts * price.input + longest * (1 + repair) * price.output) / 1e6
