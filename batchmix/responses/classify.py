"""Classifies an exchange as an answer or as a failure with the action to take.

The result depends only on the exchange and the URL path of the request, so that the exchanges in a journal can be
classified again after a crash. The table `error_rules.RULES` gives the meaning of each error.
"""

from __future__ import annotations

import logging
import re

import msgspec

from batchmix.answers.typed import TypedAnswers
from batchmix.errors import FailureAction
from batchmix.records import Completion, Exchange, Failure, Outcome
from batchmix.redact import Secrets
from batchmix.responses.endpoints import endpoint_of
from batchmix.responses.error_body import ProviderError, body_as_text, find_error, is_web_page, one_line
from batchmix.responses.error_rules import FEW_ATTEMPTS, REFUSED_PARAMETER, TOP_UP, rule_for
from batchmix.responses.parse import billed_usage, read_answer
from batchmix.responses.rate_limits import wait_in_body
from batchmix.responses.stream import UNFINISHED, ordinary_body

_logger = logging.getLogger(__name__)
_UNFUNDED = re.compile(
    r"accounts that have not been recharged can only try|未充值.{0,20}(?:账户|账号|用户).{0,20}次", re.IGNORECASE
)
_MAX_UNFUNDED_CHARS = 600
"""Only answers of up to this many characters are searched for `_UNFUNDED`. A longer one may only quote the text."""
UNREADABLE = "the answer can't be read"
"""The message of the failure that `classify` returns if reading the exchange raises an error."""
_PLAIN_TO_TLS = re.compile(
    rb"plain HTTP request was sent to HTTPS port|speaking plain HTTP to an SSL-enabled|HTTP request to an HTTPS server",
    re.IGNORECASE,
)
"""Matches the error pages with which nginx, Apache and Go's servers answer plain HTTP on a TLS port."""
_MAX_PAGE_BYTES = 4000
"""How many bytes of an error page are searched for `_PLAIN_TO_TLS`."""
_MAX_WAIT_S = 60.0
"""The longest wait, in seconds, that an error other than a rate limit can ask for, since a time in its message may mean
something else.
"""
_NAME = r"['\"`\[]*([A-Za-z]\w*(?:\.\w+)*)"
_BOUND = r"\d+ > \d+|\(\d+\) exceeds|must be (?:less|at most|between)"
_OTHER_PARAMETER = re.compile(rf"use {_NAME}['\"`]? instead", re.IGNORECASE)
_REFUSED_PARAMETER = (
    re.compile(rf"(?:parameters?|value|argument supplied|name|field|model)['\"]?: {_NAME}", re.IGNORECASE),
    re.compile(rf"^\W*{_NAME}['\"`]?:? (?:is too large|is deprecated|{_BOUND}|extra inputs)", re.IGNORECASE),
    re.compile(rf"invalid {_NAME}: only", re.IGNORECASE),
    re.compile(r"['\"`](\w+)['\"`] (?:is|has been) (?:deprecated|not|no longer|unsupported)", re.IGNORECASE),
)
_REFUSED_VALUE = re.compile(
    rf"unsupported value|only .{{1,40}} (?:is|are) (?:supported|allowed)|too large|{_BOUND}", re.IGNORECASE
)
_MAX_NAME_CHARS = 60
_OTHER_NAMES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_NOT_IN_PARAMS = ("messages", "model", "input", "prompt")


class Classifier(msgspec.Struct, frozen=True):
    """Classifies the exchanges of one job: with its secrets masked, and its answers checked against its schema."""

    secrets: Secrets | None = None
    """The secrets that are masked in the texts of answers and failures."""
    typed: TypedAnswers | None = None
    """Checks the answers against the job's schema. None if the job has none."""

    def outcome(self, exchange: Exchange, path: str) -> Outcome:
        """Return the answer in an exchange, or what is wrong with it. Raises nothing but `MemoryError`."""
        outcome = classify(exchange, path, self.secrets)
        return outcome if self.typed is None or isinstance(outcome, Failure) else self.typed.checked(outcome)


def classify(
    exchange: Exchange, path: str = "/chat/completions", secrets: Secrets | None = None
) -> Completion | Failure:
    """Return the answer in an exchange, or else a failure with the action to take. Raises nothing but `MemoryError`.

    A body that was cut off is read too. If it holds a complete answer, that answer counts, and a status of 4xx is a
    refusal in any case. `secrets` are masked once more in the result, since joining the parts of a body can put a
    secret together again.
    """
    try:
        outcome = _outcome(exchange, path)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - if a body in a journal raised an error, its run could never go on
        _logger.warning("an answer of %s can't be read: %s", path, type(error).__name__)
        return Failure(FailureAction.RETRY, "bad_answer", UNREADABLE, maybe_billed=True)
    return outcome if secrets is None else _redacted(outcome, secrets)


def _redacted(outcome: Completion | Failure, secrets: Secrets) -> Completion | Failure:
    """Return an outcome with the secrets in its texts masked."""
    if isinstance(outcome, Failure):
        message = secrets.redacted_text(outcome.message, refusal=True)
        code = outcome.code and secrets.redacted_text(outcome.code)
        return msgspec.structs.replace(outcome, message=message, code=code)
    texts = outcome.response, outcome.reasoning, outcome.refusal, outcome.tool_calls
    for text in texts:
        if text and secrets.may_occur_in(text):
            break
    else:
        return outcome
    response, reasoning, refusal, calls = (text and secrets.redacted_text(text) for text in texts)
    return msgspec.structs.replace(outcome, response=response, reasoning=reasoning, refusal=refusal, tool_calls=calls)


def _outcome(exchange: Exchange, path: str) -> Completion | Failure:
    fault, status = exchange.fault, exchange.status
    if fault == "proxy":
        unsent = not exchange.maybe_billed
        return Failure(
            FailureAction.RETRY, fault, exchange.fault_message, early_action=FailureAction.STOP_RUN, unsent=unsent
        )
    if status is None:
        return _incomplete(exchange, path)
    if not 200 <= status < 300:
        return _refused(exchange, status) if fault is None or 400 <= status < 500 else _incomplete(exchange, path)
    answer = read_answer(exchange.body, path, exchange.served_model, exchange.inputs)
    if isinstance(answer, str):
        body = ordinary_body(exchange.body, endpoint_of(path).join_stream)
        if body is not exchange.body:
            exchange = msgspec.structs.replace(exchange, body=body)
            answer = read_answer(body, path, exchange.served_model, exchange.inputs)
    if not isinstance(answer, str) and not _is_unfunded(answer.response):
        return answer
    if fault is not None:
        return _incomplete(exchange, path)
    if isinstance(answer, str):
        return _no_answer(exchange, path, answer)
    return Failure(FailureAction.STOP_RUN, "no_balance", f"{one_line(answer.response or '')}; {TOP_UP}")


def _is_unfunded(text: str | None) -> bool:
    """Return whether an answer is the fixed text that a gateway sends to accounts that have never paid."""
    if text is None or len(text) > _MAX_UNFUNDED_CHARS or ("recharged" not in text and "充值" not in text):
        return False
    return _UNFUNDED.search(text) is not None


def _incomplete(exchange: Exchange, path: str) -> Failure:
    """Classify an exchange that failed before its response was complete."""
    fault, message = exchange.fault or "connection", exchange.fault_message
    if fault == "too_large":
        return Failure(FailureAction.REJECT, fault, message)
    if fault == UNFINISHED:  # the body is the incomplete answer, in a list
        return Failure(FailureAction.RETRY, fault, message, usage=billed_usage(exchange.body[1:-1], path))
    if exchange.status is None and (fault != "timeout" or not exchange.maybe_billed):
        unsent = not exchange.maybe_billed
        return Failure(
            FailureAction.RETRY,
            fault,
            message,
            early_action=FailureAction.STOP_RUN,
            may_be_overload=unsent and fault == "connection",
            unsent=unsent,
        )
    return Failure(FailureAction.RETRY, fault, message)


def _no_answer(exchange: Exchange, path: str, problem: str) -> Failure:
    """Classify a successful response without an answer. `problem` ends a sentence, such as "has no choices"."""
    if is_web_page(exchange):
        return _wrong_address("web_page", "this base_url answers a web page; did you leave out /v1?")
    error, usage = find_error(exchange.body), billed_usage(exchange.body, path)
    if error is None:
        return Failure(
            FailureAction.RETRY,
            "bad_answer" if exchange.body.strip() else "empty",
            f"the answer {problem}",
            attempts=None if usage is None else FEW_ATTEMPTS,  # each attempt is billed
            maybe_billed=usage is None,
            usage=usage,
        )
    statuses = [int(code) for code in error.codes if re.fullmatch("[45][0-9][0-9]", code)]
    return msgspec.structs.replace(_by_rules(max(statuses, default=None), error, exchange), usage=usage)


def _refused(exchange: Exchange, status: int) -> Failure:
    if 300 <= status < 400:
        where = one_line(exchange.fault_message) or "elsewhere"
        return _wrong_address("redirect", f"base_url redirects to {where}; put the right address into the job")
    if status in {404, 405} and is_web_page(exchange):
        message = f"this base_url answers HTTP {status} with a web page; did you leave out /v1?"
        return msgspec.structs.replace(_wrong_address("web_page", message), attempts=FEW_ATTEMPTS)
    if status == 400 and _PLAIN_TO_TLS.search(exchange.body[:_MAX_PAGE_BYTES]):
        return _wrong_address("tls", "this base_url speaks TLS: it must begin with https://")
    error = find_error(exchange.body) or ProviderError(body_as_text(exchange))
    if not error.message:
        error = msgspec.structs.replace(error, message=f"HTTP {status} without a message")
    return _by_rules(status, error, exchange)


def _wrong_address(kind: str, message: str) -> Failure:
    """Return the failure for a response that no API sends, which suggests a wrong `base_url`.

    The run stops, unless the model has given an answer already. The row is then retried, since the service may only be
    down for a while.
    """
    overload = kind == "web_page"
    return Failure(FailureAction.RETRY, kind, message, early_action=FailureAction.STOP_RUN, may_be_overload=overload)


def _by_rules(status: int | None, error: ProviderError, exchange: Exchange) -> Failure:
    rule = rule_for(status, error)
    parameter, advice = _parameter_advice(error) if rule.type == REFUSED_PARAMETER else ("", rule.advice)
    return Failure(
        rule.action,
        rule.type,
        f"{error.message}; {advice}" if advice else error.message,
        error.code or None,
        early_action=rule.early_action,
        attempts=rule.attempts,
        may_be_throttling=rule.may_be_throttling,
        may_be_overload=rule.may_be_overload,
        wait_s=_requested_wait_s(rule.action, exchange),
        parameter=parameter,
    )


def _requested_wait_s(action: FailureAction, exchange: Exchange) -> float | None:
    """Return the wait in seconds that an error's body asks for, if any.

    Only a rate limit may ask for more than a minute.
    """
    if action not in (FailureAction.PAUSE, FailureAction.RETRY):
        return None
    wait_s = wait_in_body(exchange.body, exchange.finished_at_ms / 1000)
    return wait_s if wait_s is None or action is FailureAction.PAUSE else min(wait_s, _MAX_WAIT_S)


def _parameter_advice(error: ProviderError) -> tuple[str, str]:
    """Return the refused parameter and the advice for the user. Both are empty if something else was refused."""
    named = [error.param, *(match[1] for pattern in _REFUSED_PARAMETER if (match := pattern.search(error.message)))]
    refused = next(
        (name for name in named if re.fullmatch(r"[A-Za-z][\w.]*", name) and len(name) <= _MAX_NAME_CHARS), ""
    )
    if not refused or refused.partition(".")[0] in _NOT_IN_PARAMS:
        return "", ""
    if _REFUSED_VALUE.search(error.message):
        return refused, f"change {refused} or leave it out for this model"
    instead = _OTHER_PARAMETER.search(error.message)
    other = instead[1] if instead else _OTHER_NAMES.get(refused)
    if other:
        return refused, f"use {other} instead of {refused} for this model"
    return refused, f"leave out {refused} for this model"
