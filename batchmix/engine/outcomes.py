"""The outcomes of one lane's requests: a failure ends its own request, or stops the path, the lane or the run."""

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
"""Types of failures that concern a single path of the API; requests of the model to another path may succeed."""
_logger = logging.getLogger(__name__)


class RowLog(Protocol):
    """Records each event of a request before the pool acts on it."""

    def sent(self, request: Request, at_ms: int) -> None:
        """Record that a request is about to leave."""

    def received(self, request: Request, exchange: Exchange) -> Outcome:
        """Record the response, then return the answer or the failure that it holds."""

    def finished(self, request: Request, failure: Failure | None) -> None:
        """Record the end of a request: with `failure`, or with its answer if that is None."""


class SendingRules(msgspec.Struct, frozen=True):
    """The rules of one lane: its limits, its retries, and when it gives up."""

    attempts: int
    """Maximum number of attempts for a row in this start."""
    limits: Limits = Limits()
    """The model's rate limits, as far as the job sets them."""
    keep_going: bool = False
    """Continue even if the first requests are all refused for the same reason."""
    outage_s: float = math.inf
    """Maximum length of an outage of the provider, in seconds."""
    row_s: float = math.inf
    """Seconds after its first attempt in which a row may be retried."""
    budget: LaneBudget | None = None
    """The budget for the costs; None if the job sets none."""
    place: Callable[[Request, str], str] | None = None
    """Returns where in the job or the input a request parameter is set, for error messages."""
    run_status: RunStatus = msgspec.field(default_factory=RunStatus)
    """Counts answers and replies of all lanes. Any of them proves that the provider's address is right."""
    unstreamed: bool = False
    """Whether an earlier start turned streaming off for this model; it then streams only if the job asks for it."""
    on_unstreamed: Callable[[], None] = lambda: None
    """Called when this start turns streaming off for the model, because its streams break off."""
    has_paths: bool = False
    """Whether a lane sends to several paths of the API. If not, a missing path stops the lane."""


def provider_stopped(message: str, failures: Iterable[Failure]) -> ProviderStopped:
    """Return the error that stops a run: `JobRefused` if one of the failures needs a change of the job."""
    refused = any(failure.type in JOB_FAILURES for failure in failures)
    return JobRefused(message) if refused else ProviderStopped(message)


class Outcomes:
    """Ends the requests that have failed, or stops their path, lane or run. Counts the requests without an outcome.

    Some failures are held back, and their requests have no outcome yet, because the job may be wrong or the
    provider unreachable. An answer refutes that, and the requests then end with their failures.
    """

    def __init__(self, log: RowLog, shutdown: Shutdown, status: LaneStatus, rules: SendingRules) -> None:
        self.stopped: Failure | None = None
        """The failure that stops this lane, while other lanes may continue; None if none does."""
        self.stopped_paths: dict[str, Failure] = {}
        """By path: the failure that stopped sending to it. All requests to the path end with that failure."""
        self.held = 0
        """Number of requests held back until another outcome shows that not all requests are refused alike."""
        self.unreached: list[tuple[Request, Failure]] = []
        """Requests held back until the provider replies. Before its first reply in this start all failed requests are
        held back, later only those that could not reach it. If it never replies again, they stay without an outcome."""
        self._replies = 0  # the run's count of replies when the last of them was held back
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
        """Whether all requests without an outcome are held back, so that no response is awaited."""
        return self.open <= self.held + len(self.unreached)

    def begin(self, requests: int) -> None:
        """Count new requests."""
        self._begun += requests

    def decided_by(self, in_flight: int) -> bool:
        """Return whether the requests in flight will show if all are refused alike, so that no more need to leave."""
        if self._status.answers or not self.held:
            return False
        return any(
            repeated.held and repeated.held + in_flight >= repeated.length
            for repeated in self._repeated_by_path.values()
        )

    def recover(self, path: str) -> None:
        """End the requests that were held back, since an answer has come.

        To be called for the first answer of each path, and for any answer while requests are held back.
        """
        self._settle(self._repeated(path))
        if self.unreached:
            self._close_unreached()

    def fail(self, request: Request, failure: Failure) -> None:
        """End a request with its failure, hold it back, or stop the path, lane or run as the failure demands.

        If the lane or the run is stopped, the request has no outcome, so that the next start sends it again.
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
        """End the requests that are held back, once all other requests have their outcomes.

        If the provider has not replied since they were held back, stop the lane instead. The lane is also stopped if
        one of its paths was.
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
        """Prefix a message with the count of answers, which tells a key that never worked from one that was used up."""
        answers = self._status.answers
        return f"after {counted(answers, 'answer')}: {message}" if answers else message

    def _may_be_job_error(self, failure: Failure) -> bool:
        """Return whether a failure may be caused by the job, so that it has to be held back."""
        return not self._rules.keep_going and (failure.action is FailureAction.REJECT or failure.attempts is not None)

    def _placed(self, request: Request, failure: Failure) -> Failure:
        """Return the failure; if it names a refused parameter, its message also says where that is set."""
        if self._rules.place is None or not failure.parameter:
            return failure
        where = self._rules.place(request, failure.parameter)
        return msgspec.structs.replace(failure, message=f"{failure.message} ({where})")

    def _close(self, request: Request, failure: Failure) -> None:
        self._log.finished(request, self._placed(request, failure))
        self._closed += 1
