"""The account's money at the stand-in."""

from __future__ import annotations

from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.request import Json

_UNLIMITED_USD = 100_000_000


class Credit:
    """Counts what answers cost, and says when the money is gone."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._sold = 0
        self.spent_usd = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether the balance, in answers or in USD, is used up."""
        behaviour = self._behaviour
        return 0 <= behaviour.balance <= self._sold or 0 <= behaviour.balance_usd <= self.spent_usd

    def sell(self) -> None:
        """Count an answer that is going to be given."""
        self._sold += 1

    def bill(self, usage: Json, behaviour: Behaviour) -> None:
        """Take the price of an answer with this usage, from a model that behaves like this."""
        prompt, completion = behaviour.price
        asked = usage["prompt_tokens"] if "prompt_tokens" in usage else usage["input_tokens"]
        self.spent_usd += (asked * prompt + (usage["total_tokens"] - asked) * completion) / 1e6

    def subscription(self) -> Json:
        """Return what `GET /v1/dashboard/billing/subscription` says: all that ever was there, in USD."""
        limit = self._behaviour.balance_usd
        if limit < 0:
            limit = self.spent_usd if self.is_empty else _UNLIMITED_USD
        return {
            "object": "billing_subscription",
            "has_payment_method": True,
            "soft_limit_usd": limit,
            "hard_limit_usd": limit,
            "system_hard_limit_usd": limit,
            "access_until": 0,
        }

    def usage(self) -> Json:
        """Return what `GET /v1/dashboard/billing/usage` says: what is spent, in hundredths of a USD."""
        return {"object": "list", "total_usage": self.spent_usd * 100}
