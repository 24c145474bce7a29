"""A row's chain: its invalid answers, on each of which a repair follows until an answer fits or the row is given up.

The chain is made from the journals alone, so that a later start goes on where an earlier one ended.
"""

from __future__ import annotations

import msgspec

from batchmix.records import InvalidAnswer, Usage
from batchmix.store.events import LinePosition, ResponseReceived


class InvalidTurn(msgspec.Struct, frozen=True, gc=False):
    """An answer in the journals that does not fit the job's schema."""

    position: LinePosition
    path: str
    """Where the answer is wrong."""
    is_cut_off: bool
    served_model: str | None
    usage: Usage
    number: int
    """How many requests to repair an answer the row took before this one."""
    is_new: bool
    """Whether the part does not include it yet."""
    in_row: bool = False
    """Whether the row is kept with this answer, so that its usage is that of the row."""

    @property
    def is_billed(self) -> bool:
        """Whether the provider reported a complete usage."""
        return self.usage.prompt_tokens is not None and self.usage.completion_tokens is not None


class RepairChain(msgspec.Struct, gc=False):
    """The invalid answers of one row. Only `RowState` changes it."""

    hash: str
    """The hash of the request that `turns` belong to."""
    turns: tuple[InvalidTurn, ...] = ()
    """The invalid answers to the request that was last sent, and to its repairs."""
    past: tuple[InvalidTurn, ...] = ()
    """The other invalid answers of the row."""
    last_attempt: int = 0
    """The number of the attempt that brought the latest invalid answer."""
    gave_up: bool = False
    """Whether the row ended after `turns`. If it is sent again, that begins anew."""

    @property
    def moved(self) -> InvalidTurn | None:
        """The invalid answer that the row holds, but that the part still counts beside its rows. None if there is none.

        The row ended without a further answer, in a later start than the one which received this answer.
        """
        return self.turns[-1] if self.turns and self.turns[-1].in_row and not self.turns[-1].is_new else None

    @property
    def since_part(self) -> list[InvalidTurn]:
        """All invalid answers that the part does not include."""
        return [turn for turn in (*self.past, *self.turns) if turn.is_new]

    def repairs(self, hash_: str) -> int:
        """Return the number of requests that followed on a row's first one, because an answer was invalid.

        `hash_` is that of the request which the row's result belongs to.
        """
        return len(self.turns) - self.gave_up if self.turns and self.hash == hash_ else 0

    def to_continue(self, hash_: str) -> tuple[InvalidTurn, ...]:
        """Return the invalid answers to a request on which another request follows, because the row has not ended."""
        return () if self.gave_up or self.hash != hash_ else self.turns

    def last_of(self, hash_: str) -> LinePosition | None:
        """Return the position of the last invalid answer to a request. None if there is none."""
        return self.turns[-1].position if self.turns and self.hash == hash_ else None

    def follow(self, hash_: str) -> None:
        """Begin anew, unless a response to the request `hash_` follows on `turns`."""
        if self.gave_up or self.hash != hash_:
            self.leave()

    def leave(self) -> None:
        """Let no request follow on `turns`."""
        self.past, self.turns = (*self.past, *self.turns), ()

    def add(
        self, event: ResponseReceived, position: LinePosition, invalid: InvalidAnswer, *, is_new: bool
    ) -> InvalidTurn | None:
        """Add an invalid answer, and return it. None if the chain has it already."""
        if event.attempt <= self.last_attempt:
            return None
        self.follow(event.hash)
        turn = InvalidTurn(
            position,
            invalid.failure.code or "",
            invalid.is_cut_off,
            event.served_model,
            invalid.completion.usage,
            number=len(self.turns),
            is_new=is_new,
        )
        self.turns, self.hash = (*self.turns, turn), event.hash
        self.last_attempt, self.gave_up = event.attempt, False
        return turn

    def end(self, hash_: str, attempt: int) -> None:
        """Record that the row ended after its invalid answers to a request, of which `attempt` was the last."""
        if self.hash == hash_ and attempt >= self.last_attempt:
            self.gave_up = True

    def keep_last(self) -> InvalidTurn | None:
        """Record that the result row holds the last invalid answer, and return it. None if there is none."""
        if not self.turns:
            return None
        last = msgspec.structs.replace(self.turns[-1], in_row=True)
        self.turns = (*self.turns[:-1], last)
        return last
