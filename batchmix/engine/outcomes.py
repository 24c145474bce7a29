"""How the requests of one lane end: each for itself, or all of them where a failure means that the lane must stop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from batchmix.engine.repeated_failures import RepeatedFailures
from batchmix.engine.run_status import LaneStatus, RunStatus
from batchmix.engine.shutdown import Shutdown
from batchmix.errors import FailureAction, JobRefused, ProviderStopped
from batchmix.formats.amounts import counted
from batchmix.job import Limits
from batchmix.prices.budget import LaneBudget
from batchmix.records import Exchange, Failure, Outcome, Request
from batchmix.responses.error_rules import JOB_FAILURES

_ADVICE = "; fix the job, or send the rest all the same with --keep-going"
_OF_THE_PATH = frozenset({"not_found", "not_offered", "wrong_endpoint", "web_page"})
"""Types of failures that say nothing of what the model does at another path."""
_logger = logging.getLogger(__name__)


class RowLog(Protocol):
    """Records what happens to requests, each thing before anything else is done about it."""

    def sent(self, request: Request, at_ms: int) -> None:
        """Record that a request is about to leave."""

    def received(self, request: Request, exchange: Exchange) -> Outcome:
        """Record the response, then return whether it is an answer or a failure."""

    def finished(self, request: Request, failure: Failure | None) -> None:
        """Record that a request has its answer (None), or ended without one."""


class SendingRules(msgspec.Struct, frozen=True):
    """What a lane sends, how often, and when it gives up."""

    attempts: int
    """How many a row may take in this start."""
    limits: Limits = Limits()
    """The model's, as far as the job sets them."""
    keep_going: bool = False
    """Go on although the first requests are all refused for the same reason."""
    outage_s: float = math.inf
    """How long an outage of the provider may last."""
    row_s: float = math.inf
    """How long after its first attempt a row may be sent again."""
    budget: LaneBudget | None = None
    """The cap on costs; None: there is none."""
    place: Callable[[Request, str], str] | None = None
    """Returns where a parameter of a request is set, for a message."""
    run_status: RunStatus = msgspec.field(default_factory=RunStatus)
    """Counts answers and replies of all lanes: they prove that the job's address is right."""
    unstreamed: bool = False
    """Whether this model's answers are streamed only where the job asks for it."""
    on_unstreamed: Callable[[], None] = lambda: None
    """Called when that begins, since a stream of this model had no end."""
    has_paths: bool = False
    """Whether requests of a lane go to several paths of the API; else a path that is not there stops the lane."""


def provider_stopped(message: str, failures: Iterable[Failure]) -> ProviderStopped:
    """Return what stops a run because of these failures, by whether the job must change before it goes on."""
    refused = any(failure.type in JOB_FAILURES for failure in failures)
    return JobRefused(message) if refused else ProviderStopped(message)


class Outcomes:
    """Ends requests that have failed, or stops their lane or path; knows how many requests have no outcome yet.

    Some failures are held back, without an outcome, until it is clear that they are not the fault of the job, or that
    the provider is there. An answer decides that.
    """

    def __init__(self, log: RowLog, shutdown: Shutdown, status: LaneStatus, rules: SendingRules) -> None:
        self.stopped: Failure | None = None
        """Why the lane must stop, if the others may go on."""
        self.stopped_paths: dict[str, Failure] = {}
        """Why nothing more is sent to a path; its requests end with that."""
        self.held = 0
        """Requests that are held back until another outcome shows that not all are refused alike."""
        self.unreached: list[tuple[Request, Failure]] = []
        """Requests that are held back until the provider replies: all while it has not replied in this start, and those
        that could not reach it since its last reply. If it never replies again they have no outcome."""
        self._replies = 0  # when the last of them came
        self._begun = 0
        self._closed = 0  # without an answer
        self._log = log
        self._shutdown = shutdown
        self._status = status
        self._rules = rules
        self._repeated_by_path: dict[str, RepeatedFailures] = {}  # by path

    @property
    def open(self) -> int:
        """How many requests were begun and have no outcome."""
        return self._begun - self._status.answers - self._closed

    @property
    def nothing_pending(self) -> bool:
        """Whether nothing is awaited any more; what is held back has no outcome yet."""
        return self.open <= self.held + len(self.unreached)

    def begin(self, requests: int) -> None:
        """Count requests that will be sent."""
        self._begun += requests

    def decided_by(self, in_flight: int) -> bool:
        """Return whether what is in flight will show if all are refused, so that no more need to leave."""
        if self._status.answers or not self.held:
            return False
        return any(
            repeated.held and repeated.held + in_flight >= repeated.length
            for repeated in self._repeated_by_path.values()
        )

    def recover(self, path: str) -> None:
        """End what was held back until an answer came: to be called for the first of each path, and while any is."""
        self._settle(self._repeated(path))
        if self.unreached:
            self._close_unreached()

    def fail(self, request: Request, failure: Failure) -> None:
        """End a request, or stop what its failure says must be stopped: then it has no outcome."""
        if failure.action is FailureAction.STOP_RUN:
            self._shutdown.stop(provider_stopped(self._after_answers(failure.message), [failure]))
        elif failure.action is FailureAction.STOP_MODEL:
            self.stop(msgspec.structs.replace(failure, message=self._after_answers(failure.message)))
        elif failure.action is FailureAction.STOP_PATH:
            self.stop_path(request.path, failure)
            if self.stopped is None:
                stopped = self.stopped_paths[request.path]
                self._close(request, Failure(FailureAction.RETRY, "model_stopped", stopped.message, stopped.code))
        elif self._may_be_job_error(failure) and self._repeated(request.path).holds(request, failure):
            self.held += 1
            self._stop_if_full(request, failure)
        elif failure.unsent or not self._rules.run_status.replies:
            self.unreached.append((request, failure))
            self._replies = self._rules.run_status.replies
        else:
            self._settle(self._repeated(request.path))
            self._close(request, failure)

    def settle(self) -> None:
        """End what was held back, when all requests have returned.

        Where the provider has not replied since, stop the lane instead. A path that was stopped counts for the lane.
        """
        for repeated in self._repeated_by_path.values():
            self._settle(repeated)
        if self.unreached and self._rules.run_status.replies == self._replies:
            last = self.unreached[-1][1]
            what = "can't be reached any more" if self._replies else "never answered"
            self.stop(Failure(FailureAction.STOP_MODEL, last.type, f"the provider {what}: {last.message}", last.code))
        else:
            self._close_unreached()
        if self.stopped_paths:
            paths = "; ".join(f"{path}: {failure.message}" for path, failure in sorted(self.stopped_paths.items()))
            self.stop(msgspec.structs.replace(next(iter(self.stopped_paths.values())), message=paths))

    def _close_unreached(self) -> None:
        unreached, self.unreached = self.unreached, []
        for request, failure in unreached:
            self._close(request, failure)

    def stop(self, failure: Failure) -> None:
        """Stop the lane. The first reason counts."""
        if self.stopped is None:
            self.stopped = failure
            _logger.info("%s is stopped: %s", self._status.model, failure.message)

    def stop_path(self, path: str, failure: Failure) -> None:
        """Stop sending to a path: the lane, where it sends to no other. The first reason counts."""
        if not self._rules.has_paths:
            self.stop(
                msgspec.structs.replace(
                    failure, action=FailureAction.STOP_MODEL, message=self._after_answers(failure.message)
                )
            )
            return
        self.stopped_paths.setdefault(path, failure)
        self._settle(self._repeated(path))

    def _stop_if_full(self, request: Request, failure: Failure) -> None:
        repeated = self._repeated(request.path)
        if not repeated.is_full:
            return
        which = "first" if repeated.length == RepeatedFailures.FIRST else "last"
        reason = self._placed(request, failure).message
        message = f"the {which} {repeated.held} requests were all refused: {reason}{_ADVICE}"
        stopped = Failure(FailureAction.STOP_MODEL, failure.type, message, failure.code)
        if failure.type in _OF_THE_PATH and self._rules.has_paths:
            last, _ = repeated.last()
            self.held -= 1
            self.fail(last, msgspec.structs.replace(stopped, action=FailureAction.STOP_PATH))
        else:
            self.stop(stopped)

    def _repeated(self, path: str) -> RepeatedFailures:
        return self._repeated_by_path.get(path) or self._repeated_by_path.setdefault(path, RepeatedFailures())

    def _settle(self, repeated: RepeatedFailures) -> None:
        self.held -= repeated.held
        for request, failure in repeated.broken():
            self._close(request, failure)

    def _after_answers(self, message: str) -> str:
        """Return why all is stopped, and after how many answers: that tells a wrong key from one that was used up."""
        answers = self._status.answers
        return f"after {counted(answers, 'answer')}: {message}" if answers else message

    def _may_be_job_error(self, failure: Failure) -> bool:
        """Return whether a failure is held back until another outcome shows that not all rows fail alike."""
        return not self._rules.keep_going and (failure.action is FailureAction.REJECT or failure.attempts is not None)

    def _placed(self, request: Request, failure: Failure) -> Failure:
        """Return a failure whose message says where a refused parameter stands."""
        if self._rules.place is None or not failure.parameter:
            return failure
        where = self._rules.place(request, failure.parameter)
        return msgspec.structs.replace(failure, message=f"{failure.message} ({where})")

    def _close(self, request: Request, failure: Failure) -> None:
        self._log.finished(request, self._placed(request, failure))
        self._closed += 1
