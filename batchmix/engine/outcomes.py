"""The outcomes of one lane's requests: a failure ends one request, or stops the path, the lane or the run."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from batchmix.answers.typed import INVALID
from batchmix.engine.prefixes import PrefixTree
from batchmix.engine.repeated_failures import RepeatedFailures
from batchmix.engine.run_status import LaneStatus, RunStatus
from batchmix.engine.shutdown import Shutdown
from batchmix.errors import FailureAction, JobRefused, ProviderStopped
from batchmix.formats.amounts import counted
from batchmix.job import Cache, Limits
from batchmix.prices.budget import LaneBudget
from batchmix.records import Exchange, Failure, InvalidAnswer, Outcome, Request
from batchmix.responses.error_rules import JOB_FAILURES

_ADVICE = "; fix the job, or send the rest all the same with --keep-going"
_OF_THE_PATH = frozenset({"not_found", "not_offered", "wrong_endpoint", "web_page"})
"""Types of failures that concern a single path of the API. Requests to another path may succeed."""
_logger = logging.getLogger(__name__)


class Transport(Protocol):
    """Sends requests. An error of the connection is not raised; it is part of the returned exchange."""

    async def post(self, request: Request) -> Exchange:
        """Send a request and return its exchange: the response, or the fault that prevented one."""


class RowLog(Protocol):
    """Records each event of a request before the pool acts on it."""

    def sent(self, request: Request, at_ms: int) -> None:
        """Record that a request is about to be sent."""

    def received(self, request: Request, exchange: Exchange) -> Outcome:
        """Record the response; return the answer or the failure in it."""

    def follow_up(self, request: Request, invalid: InvalidAnswer) -> Request | None:
        """Return the request that follows on an invalid answer to `request`. None if the row is given up."""

    def refused_repair(self, request: Request, refusal: Failure) -> tuple[Exchange, InvalidAnswer] | None:
        """Return the answer that a refused request was to repair, with the failure that ends the row.

        None if the request was to repair none, so that the row's own request was refused.
        """

    def finished(self, request: Request, failure: Failure | None) -> None:
        """Record the outcome of a request: `failure`, or the answer received before if `failure` is None."""


class SendingRules(msgspec.Struct, frozen=True):
    """The rules of one lane: its limits, its retries, and when it gives up."""

    attempts: int
    """Maximum number of attempts for a row in this start."""
    limits: Limits = Limits()
    """The rate limits that the job sets for the model."""
    keep_going: bool = False
    """Continue even if the first requests are all refused for the same reason."""
    outage_s: float = math.inf
    """Maximum length of an outage of the provider, in seconds."""
    row_s: float = math.inf
    """A row may be retried for this many seconds after its first attempt."""
    budget: LaneBudget | None = None
    """The lane's access to the budget; None if the job sets no budget."""
    place: Callable[[Request, str], str] | None = None
    """Returns the place in the job or the input where a request parameter is set, for error messages."""
    run_status: RunStatus = msgspec.field(default_factory=RunStatus)
    """Counts the answers and replies of all lanes. Any of them proves that the provider's address is right."""
    unstreamed: bool = False
    """Whether an earlier start turned streaming off for this model. Requests then stream only if the job sets it."""
    on_unstreamed: Callable[[], None] = lambda: None
    """Called when this start turns streaming off for the model, because the model's streams break off."""
    has_paths: bool = False
    """Whether a lane sends to several paths of the API. Otherwise a missing path stops the lane."""
    prefixes: PrefixTree | None = None
    """Where the long prefixes of the lane's requests are found. None if they do not matter."""
    may_send: Callable[[], bool] | None = None
    """Whether anything may be sent now. None if it always may."""
    cache: Cache = Cache()
    """How the lane uses the provider's prompt cache, if the prefixes are looked for."""


def provider_stopped(message: str, failures: Iterable[Failure]) -> ProviderStopped:
    """Return the error that stops a run: `JobRefused` if the job must be changed, otherwise `ProviderStopped`."""
    refused = any(failure.type in JOB_FAILURES for failure in failures)
    return JobRefused(message) if refused else ProviderStopped(message)


class Outcomes:
    """Decides what a failure means for its request, and counts the requests without an outcome.

    A failure ends its request, or stops the path, the lane or the run. While the job may be wrong or the provider
    unreachable, failures are held back, and their requests have no outcome. An answer proves that this is not so; the
    requests then end with their failures.
    """

    def __init__(self, log: RowLog, shutdown: Shutdown, status: LaneStatus, rules: SendingRules) -> None:
        self.stopped: Failure | None = None
        """The failure that stops this lane; None while the lane continues. Other lanes are not affected."""
        self.stopped_paths: dict[str, Failure] = {}
        """The stopped paths, each with the failure that stopped it. All requests to the path end with that failure."""
        self.kept = 0
        """Number of rows that have ended with an answer that does not fit the schema, because the job keeps these."""
        self.held = 0
        """Number of requests held back until another outcome shows that not all requests are refused alike."""
        self.unreached: list[tuple[Request, Failure]] = []
        """Requests held back until the provider replies. Before its first reply in this start, all failed requests are
        held back; later, only those that could not reach it. If it never replies, these requests have no outcome."""
        self._replies = 0  # the run's count of replies when a request was last added to `unreached`
        self._begun = 0
        self._closed = 0  # requests that ended without an answer
        self._log = log
        self._shutdown = shutdown
        self._status = status
        self._rules = rules
        self._repeated_by_path: dict[str, RepeatedFailures] = {}

    @property
    def open(self) -> int:
        """Number of requests that have no outcome yet."""
        return self._begun - self._status.answers - self._closed

    @property
    def nothing_pending(self) -> bool:
        """Whether all requests without an outcome are held back. Then no response is awaited."""
        return self.open <= self.held + len(self.unreached)

    def begin(self, requests: int) -> None:
        """Count new requests."""
        self._begun += requests

    def decided_by(self, in_flight: int) -> bool:
        """Return whether the requests in flight are enough to show if all are refused alike.

        If so, no more requests need to be sent before they return.
        """
        if self._status.answers or not self.held:
            return False
        return any(
            repeated.held and repeated.held + in_flight >= repeated.length
            for repeated in self._repeated_by_path.values()
        )

    def recover(self, path: str) -> None:
        """End the requests that were held back, because there was an answer.

        Called for the first answer of each path, and for each answer while requests are held back.
        """
        self._settle(self._repeated(path))
        if self.unreached:
            self._close_unreached()

    def fail(self, request: Request, failure: Failure) -> None:
        """End a request with its failure, hold it back, or stop the path, lane or run, as the failure demands.

        If the lane or the run is stopped, the request gets no outcome, and the next start sends it again.
        """
        if failure.action is FailureAction.STOP_RUN:
            self._shutdown.stop(provider_stopped(self._after_answers(failure.message), [failure]))
        elif failure.action is FailureAction.STOP_MODEL:
            self.stop(msgspec.structs.replace(failure, message=self._after_answers(failure.message)))
        elif failure.action is FailureAction.STOP_PATH:
            self.stop_path(request.path, failure)
            if self.stopped is None:
                stopped = self.stopped_paths[request.path]
                self._close(request, Failure(FailureAction.RETRY, "model_stopped", stopped.message, stopped.code))
        elif self._may_be_job_error(failure) and self._repeated(request.path).hold(request, failure):
            self.held += 1
            self._stop_if_full(request, failure)
        elif failure.unsent or not self._rules.run_status.replies:
            self.unreached.append((request, failure))
            self._replies = self._rules.run_status.replies
        else:
            self._settle(self._repeated(request.path))
            self._close(request, failure)

    def settle(self) -> None:
        """End the requests that are held back, once all other requests have their outcomes.

        If the provider has not replied since they were held back, stop the lane instead. Also stop the lane if any of
        its paths was stopped.
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
        """Stop sending to a path, or stop the lane if it sends to a single path. The first reason counts."""
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
        what = "answers do not fit the schema" if failure.type == INVALID else "requests were all refused"
        message = f"the {which} {repeated.held} {what}: {reason}{_ADVICE}"
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
        for request, failure in repeated.release():
            self._close(request, failure)

    def _after_answers(self, message: str) -> str:
        """Prefix a message with the number of answers: it shows whether an API key never worked, or was used up."""
        answers = self._status.answers
        return f"after {counted(answers, 'answer')}: {message}" if answers else message

    def _may_be_job_error(self, failure: Failure) -> bool:
        """Return whether a failure has to be held back, because the job may be its cause."""
        if failure.action is FailureAction.KEEP:
            return False
        return not self._rules.keep_going and (failure.action is FailureAction.REJECT or failure.attempts is not None)

    def _placed(self, request: Request, failure: Failure) -> Failure:
        """Return the failure. If it names a refused parameter, add to the message where the parameter is set."""
        if self._rules.place is None or not failure.parameter:
            return failure
        where = self._rules.place(request, failure.parameter)
        return msgspec.structs.replace(failure, message=f"{failure.message} ({where})")

    def _close(self, request: Request, failure: Failure) -> None:
        self._log.finished(request, self._placed(request, failure))
        self._closed += 1
        if failure.action is FailureAction.KEEP:
            self.kept += 1
            if self.kept == RepeatedFailures.FIRST and not self._status.answers:
                what = f"none of the first {self.kept} answers fits the schema, and they are kept (answer.on_invalid)"
                _logger.warning("%s: %s: %s", self._status.model, what, failure.message)
