"""How the requests of one lane end: each for itself, or all of them where a failure means that the lane must stop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from batchmix.errors import JobRefused, Next, ProviderStopped
from batchmix.records import Completion, Failure, Request
from batchmix.send.attempts import Outcome
from batchmix.send.budget import LanePurse
from batchmix.send.halt import Halt
from batchmix.send.rules import OF_THE_JOB
from batchmix.send.streak import Streak

_ADVICE = "; mend the job, or let the rest be asked all the same with --keep-going"
_logger = logging.getLogger(__name__)


class EndLog(Protocol):
    """Records how a request has ended."""

    def ended(self, request: Request, failure: Failure | None) -> None:
        """Record that it has its answer (None), or ended without one."""


class Rules(msgspec.Struct, frozen=True):
    """When a lane gives up."""

    attempts: int
    """How many a row may cost in this start."""
    keep_going: bool = False
    """Go on although the first requests are all refused for the same reason."""
    outage_s: float = math.inf
    """How long to wait for a provider that is down."""
    row_s: float = math.inf
    """How long after its first attempt a row may be asked again."""
    purse: LanePurse | None = None
    """What a request must fit into; None: there is no cap."""
    place: Callable[[Request, str], str] | None = None
    """Says where a parameter of a request is to be changed."""


def provider_stopped(message: str, failures: Iterable[Failure]) -> ProviderStopped:
    """Return what stops a run because of these failures, by whether the job must change before it goes on."""
    refused = any(failure.type in OF_THE_JOB for failure in failures)
    return JobRefused(message) if refused else ProviderStopped(message)


class Ends:
    """Ends requests, and knows how many have no end yet."""

    def __init__(self, log: EndLog, halt: Halt, model: str, rules: Rules) -> None:
        self.stopped: Failure | None = None
        """Why the lane must stop, if the others may go on."""
        self.open = 0
        """Requests that were begun and have no end."""
        self.held = 0
        """Of these, how many are held back until it is seen that not all end alike."""
        self.good_answers = 0
        """In this start."""
        self._log = log
        self._halt = halt
        self._model = model
        self._keep_going = rules.keep_going
        self._place = rules.place
        self._streak = Streak()

    @property
    def all_in(self) -> bool:
        """Whether nothing is awaited any more; what the streak holds may still have no end."""
        return self.open <= self.held

    def decided_by(self, in_flight: int) -> bool:
        """Return whether what is in flight will show if all requests are refused, so that no more need to leave."""
        return not self.good_answers and self.held > 0 and self.held + in_flight >= self._streak.length

    def take(self, request: Request, outcome: Outcome) -> None:
        """End a request, or stop what its failure says must be stopped: then it has no end."""
        if isinstance(outcome, Completion):
            self.good_answers += 1
            if self.held or self.good_answers == 1:
                self.settle()
            self._close(request, None)
        elif self.next_step(outcome) is Next.STOP_RUN:
            self._halt.stop(provider_stopped(self._dated(outcome.message), [outcome]))
        elif self.next_step(outcome) is Next.STOP_MODEL:
            self.stop(msgspec.structs.replace(outcome, message=self._dated(outcome.message)))
        elif self._may_be_the_jobs(outcome) and self._streak.holds(request, outcome):
            self.held += 1
            if self._streak.is_full:
                which = "first" if self._streak.length == Streak.FIRST else "last"
                said = self._placed(request, outcome).message
                message = f"the {which} {self.held} requests were all refused: {said}{_ADVICE}"
                self.stop(Failure(Next.STOP_MODEL, outcome.type, message, outcome.code))
        else:
            self.settle()
            self._close(request, outcome)

    def next_step(self, failure: Failure) -> Next:
        """Return what follows from a failure, which may be worse while no good answer has come."""
        return failure.next if self.good_answers or failure.at_first is None else failure.at_first

    def settle(self) -> None:
        """End what the streak has held back."""
        self.held = 0
        for request, failure in self._streak.broken():
            self._close(request, failure)

    def stop(self, failure: Failure) -> None:
        """Stop the lane. The first reason counts."""
        if self.stopped is None:
            self.stopped = failure
            _logger.info("%s is stopped: %s", self._model, failure.message)

    def _dated(self, message: str) -> str:
        """Return why all is stopped, and how much went well before: it tells a wrong key from one that was used up."""
        return f"after {self.good_answers:,} answers: {message}" if self.good_answers else message

    def _may_be_the_jobs(self, failure: Failure) -> bool:
        """Return whether a failure is held back until it is seen that not all rows end with it."""
        return not self._keep_going and (failure.next is Next.REJECT or failure.attempts is not None)

    def _placed(self, request: Request, failure: Failure) -> Failure:
        """Return a failure whose message says where a refused parameter stands."""
        if self._place is None or not failure.parameter:
            return failure
        where = self._place(request, failure.parameter)
        return msgspec.structs.replace(failure, message=f"{failure.message} ({where})")

    def _close(self, request: Request, failure: Failure | None) -> None:
        self._log.ended(request, failure and self._placed(request, failure))
        self.open -= 1
