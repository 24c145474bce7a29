"""The requests that a run would send to one model, with bounds on their cost and time."""

from __future__ import annotations

import math

import msgspec

from batchmix.engine.prefixes import PrefixTree, has_marks
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
    cached_tokens: int = 0
    """Number of prompt tokens that could be read from a prompt cache, because earlier requests begin in the same way.
    Like `prompt_tokens`, it is estimated."""
    cache_write_tokens: int = 0
    """Number of prompt tokens that must be in the cache for that, each counted once."""
    lacks_marks: bool = False
    """Whether the model caches only what is marked, and these requests would be sent without marks."""
    least_cached_usd: float | None = None
    """The lower bound on the cost if all these tokens are read from the cache. None if they cost no less there."""
    most_cached_usd: float | None = None
    """The upper bound on the cost in that case. None as in `most_usd`, or as `least_cached_usd`."""
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

    def count_prefix(self, request: Request, prefixes: PrefixTree, *, is_marked: bool) -> None:
        """Add what a request could read from a prompt cache. `is_marked` says whether the job sets marks for it."""
        self.lacks_marks |= prefixes.needs_marks and not (is_marked or has_marks(request.body))
        prefix = prefixes.add(request.body)
        shared = prefix and prefix.shared
        if shared is None:
            return
        per_byte = request.prompt_tokens / len(request.body)
        self.cached_tokens += round(len(shared.text) * per_byte)
        if not shared.warm_until:
            shared.warm_until = math.inf
            above = shared.parent.text if shared.parent is not None else b""
            self.cache_write_tokens += round((len(shared.text) - len(above)) * per_byte)

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
            self._set_cached_usd(price)
        times = []
        if limits.requests_per_minute:
            times.append(self.requests / limits.requests_per_minute * 60)
        if limits.tokens_per_minute:
            times.append((short + self.requests) / limits.tokens_per_minute * 60)
        self.least_s = max(times, default=None)

    def _set_cached_usd(self, price: Price) -> None:
        """Set the bounds on the cost with a prompt cache, whose prices apply to the same estimates."""
        if price.cache_read is None or not self.cached_tokens or self.least_usd is None:
            return
        written = 0.0 if price.cache_write is None else price.cache_write - price.input
        saved_usd = (self.cached_tokens * (price.input - price.cache_read) - self.cache_write_tokens * written) / 1e6
        if saved_usd <= 0:
            return
        self.least_cached_usd = self.least_usd - saved_usd * _PROMPTS[0]
        if self.most_usd is not None:
            self.most_cached_usd = self.most_usd - saved_usd * _PROMPTS[1]

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
