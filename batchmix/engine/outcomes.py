"""How the requests of one lane end: each for itself, or all of them where a failure means that the lane must stop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from batchmix.engine.early_failures import Seen
from batchmix.engine.repeated_failures import RepeatedFailures
from batchmix.engine.shutdown import Shutdown
from batchmix.errors import FailureAction, JobRefused, ProviderStopped
from batchmix.formats.amounts import counted
from batchmix.prices.budget import LaneBudget
from batchmix.records import Completion, Failure, Outcome, Request
from batchmix.responses.error_rules import JOB_FAILURES

_ADVICE = "; mend the job, or let the rest be asked all the same with --keep-going"
_OF_THE_PATH = frozenset({"not_found", "not_offered", "wrong_endpoint", "web_page"})
"""Types of failures that say nothing of what the model does at another path."""
_logger = logging.getLogger(__name__)


class OutcomeLog(Protocol):
    """Records how a request has ended."""

    def finished(self, request: Request, failure: Failure | None) -> None:
        """Record that it has its answer (None), or ended without one."""


class SendingRules(msgspec.Struct, frozen=True):
    """When a lane gives up."""

    attempts: int
    """How many a row may cost in this start."""
    keep_going: bool = False
    """Go on although the first requests are all refused for the same reason."""
    outage_s: float = math.inf
    """How long to wait for a provider that is down."""
    row_s: float = math.inf
    """How long after its first attempt a row may be asked again."""
    budget: LaneBudget | None = None
    """What a request must fit into; None: there is no cap."""
    place: Callable[[Request, str], str] | None = None
    """Says where a parameter of a request is to be changed."""
    seen: Seen = msgspec.field(default_factory=Seen)
    """What speaks for the job's address; shared by all lanes."""
    unstreamed: bool = False
    """Whether this model's answers are not to be streamed where the job does not ask for it."""
    has_paths: bool = False
    """Whether requests of a lane go to several paths of the API; else a path that is not there stops the lane."""


def provider_stopped(message: str, failures: Iterable[Failure]) -> ProviderStopped:
    """Return what stops a run because of these failures, by whether the job must change before it goes on."""
    refused = any(failure.type in JOB_FAILURES for failure in failures)
    return JobRefused(message) if refused else ProviderStopped(message)


class Outcomes:
    """Ends requests, and knows how many have no end yet."""

    def __init__(self, log: OutcomeLog, shutdown: Shutdown, model: str, rules: SendingRules) -> None:
        self.stopped: Failure | None = None
        """Why the lane must stop, if the others may go on."""
        self.stopped_paths: dict[str, Failure] = {}
        """Why nothing more is asked at a path; its requests end with that."""
        self.open = 0
        """Requests that were begun and have no end."""
        self.held = 0
        """Of these, how many are held back until it is seen that not all end alike."""
        self.good_answers = 0
        """In this start."""
        self._unheard: list[tuple[Request, Failure]] = []
        """Of these again, all as long as the provider has not said a word in this start, and those that could not reach
        it since it last did: where it says none any more, none of them is over."""
        self._replies = 0  # when the last of them came
        self._log = log
        self._shutdown = shutdown
        self._model = model
        self._rules = rules
        self._streaks: dict[str, RepeatedFailures] = {}  # by path
        self._answered: set[str] = set()  # paths

    @property
    def all_in(self) -> bool:
        """Whether nothing is awaited any more; what is held back may still have no end."""
        return self.open <= self.held + len(self._unheard)

    def decided_by(self, in_flight: int) -> bool:
        """Return whether what is in flight will show if all requests are refused, so that no more need to leave."""
        if self.good_answers or not self.held:
            return False
        return any(streak.held and streak.held + in_flight >= streak.length for streak in self._streaks.values())

    def take(self, request: Request, outcome: Outcome) -> None:
        """End a request, or stop what its failure says must be stopped: then it has no end."""
        if isinstance(outcome, Completion):
            self.good_answers += 1
            if self.held or request.path not in self._answered:
                self._answered.add(request.path)
                self._settle(self._streak(request.path))
            if self._unheard:
                self._give_up_unheard()
            self._close(request, None)
        elif outcome.action is FailureAction.STOP_RUN:
            self._shutdown.stop(provider_stopped(self._dated(outcome.message), [outcome]))
        elif outcome.action is FailureAction.STOP_MODEL:
            self.stop(msgspec.structs.replace(outcome, message=self._dated(outcome.message)))
        elif outcome.action is FailureAction.STOP_PATH:
            self.stop_path(request.path, outcome)
            if self.stopped is None:
                stopped = self.stopped_paths[request.path]
                self._close(request, Failure(FailureAction.RETRY, "model_stopped", stopped.message, stopped.code))
        elif self._may_be_the_jobs(outcome) and self._streak(request.path).holds(request, outcome):
            self.held += 1
            self._stop_if_full(request, outcome)
        elif outcome.unsent or not self._rules.seen.replies:
            self._unheard.append((request, outcome))
            self._replies = self._rules.seen.replies
        else:
            self._settle(self._streak(request.path))
            self._close(request, outcome)

    def settle(self) -> None:
        """End what was held back; where the provider has not said a word, stop the lane instead."""
        for streak in self._streaks.values():
            self._settle(streak)
        if self._unheard and self._rules.seen.replies == self._replies:
            last = self._unheard[-1][1]
            what = "can't be reached any more" if self._replies else "never answered"
            self.stop(Failure(FailureAction.STOP_MODEL, last.type, f"the provider {what}: {last.message}", last.code))
            return
        self._give_up_unheard()

    def _give_up_unheard(self) -> None:
        unheard, self._unheard = self._unheard, []
        for request, failure in unheard:
            self._close(request, failure)

    def stop(self, failure: Failure) -> None:
        """Stop the lane. The first reason counts."""
        if self.stopped is None:
            self.stopped = failure
            _logger.info("%s is stopped: %s", self._model, failure.message)

    def stop_path(self, path: str, failure: Failure) -> None:
        """Stop all that is asked at a path: the lane, where it asks at no other. The first reason counts."""
        if not self._rules.has_paths:
            self.stop(
                msgspec.structs.replace(failure, action=FailureAction.STOP_MODEL, message=self._dated(failure.message))
            )
            return
        self.stopped_paths.setdefault(path, failure)
        self._settle(self._streak(path))

    def finish(self) -> None:
        """Take note that all requests were heard of: a path that was stopped counts for the lane."""
        if self.stopped_paths:
            paths = "; ".join(f"{path}: {failure.message}" for path, failure in sorted(self.stopped_paths.items()))
            self.stop(msgspec.structs.replace(next(iter(self.stopped_paths.values())), message=paths))

    def _stop_if_full(self, request: Request, failure: Failure) -> None:
        streak = self._streak(request.path)
        if not streak.is_full:
            return
        which = "first" if streak.length == RepeatedFailures.FIRST else "last"
        said = self._placed(request, failure).message
        message = f"the {which} {streak.held} requests were all refused: {said}{_ADVICE}"
        stopped = Failure(FailureAction.STOP_MODEL, failure.type, message, failure.code)
        if failure.type in _OF_THE_PATH and self._rules.has_paths:
            last, _ = streak.last()
            self.held -= 1
            self.take(last, msgspec.structs.replace(stopped, action=FailureAction.STOP_PATH))
        else:
            self.stop(stopped)

    def _streak(self, path: str) -> RepeatedFailures:
        return self._streaks.get(path) or self._streaks.setdefault(path, RepeatedFailures())

    def _settle(self, streak: RepeatedFailures) -> None:
        self.held -= streak.held
        for request, failure in streak.broken():
            self._close(request, failure)

    def _dated(self, message: str) -> str:
        """Return why all is stopped, and how much went well before: it tells a wrong key from one that was used up."""
        return f"after {counted(self.good_answers, 'answer')}: {message}" if self.good_answers else message

    def _may_be_the_jobs(self, failure: Failure) -> bool:
        """Return whether a failure is held back until it is seen that not all rows end with it."""
        return not self._rules.keep_going and (failure.action is FailureAction.REJECT or failure.attempts is not None)

    def _placed(self, request: Request, failure: Failure) -> Failure:
        """Return a failure whose message says where a refused parameter stands."""
        if self._rules.place is None or not failure.parameter:
            return failure
        where = self._rules.place(request, failure.parameter)
        return msgspec.structs.replace(failure, message=f"{failure.message} ({where})")

    def _close(self, request: Request, failure: Failure | None) -> None:
        self._log.finished(request, failure and self._placed(request, failure))
        self.open -= 1
