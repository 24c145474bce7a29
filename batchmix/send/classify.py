"""What an exchange means: an answer, or a failure and what follows from it.

`judge` depends on nothing but the exchange and the path it was sent to, so that a journal can be judged again after
a crash. What an error means stands in `rules.RULES`.
"""

from __future__ import annotations

import re

import msgspec

from batchmix.errors import Next
from batchmix.records import Completion, Exchange, Failure
from batchmix.send import parameters
from batchmix.send.answers import billed_usage, read_answer
from batchmix.send.complaints import Complaint, find_complaint, is_web_page, one_line, plain_text
from batchmix.send.rules import REFUSED_PARAMETER, TOP_UP, rule_for

_UNFUNDED = re.compile(
    r"accounts that have not been recharged can only try|未充值.{0,20}(?:账户|账号|用户).{0,20}次", re.IGNORECASE
)
_LONGEST_TRAP = 600


def judge(exchange: Exchange, path: str = "/chat/completions") -> Completion | Failure:
    """Return the answer in an exchange, or why there is none and what happens next. Never raises.

    A body that broke off is read all the same: a whole answer is an answer, and a refusal is known by its status.
    """
    fault, status = exchange.fault, exchange.status
    if status is not None:
        if 200 <= status < 300:
            answer = read_answer(exchange.body, path, exchange.served_model)
            if isinstance(answer, Completion):
                return _unless_unfunded(answer)
            if fault is None:
                return _broken(exchange, path, answer)
        elif fault is None or 400 <= status < 500:
            return _refused(exchange, status)
    kind = fault or "connection"
    return Failure(Next.REJECT if kind == "too_large" else Next.RETRY, kind, exchange.fault_message)


def _unless_unfunded(answer: Completion) -> Completion | Failure:
    """Let an answer pass unless it is the text that an account gets which never paid."""
    text = answer.response
    if text is None or len(text) > _LONGEST_TRAP or ("recharged" not in text and "充值" not in text):
        return answer
    if not _UNFUNDED.search(text):
        return answer
    return Failure(Next.STOP_RUN, "no_balance", f"{one_line(text)}; {TOP_UP}")


def _broken(exchange: Exchange, path: str, problem: str) -> Failure:
    """Judge a 200 that holds no answer; `problem` says what it lacks."""
    if is_web_page(exchange):
        return _wrong_address("web_page", "this base_url answers a web page; did you leave out /v1?")
    complaint = find_complaint(exchange.body)
    if complaint is None:
        kind = "bad_answer" if exchange.body.strip() else "empty"
        usage = billed_usage(exchange.body, path)
        return Failure(Next.RETRY, kind, f"the answer {problem}", maybe_billed=usage is None, usage=usage)
    statuses = [int(code) for code in complaint.codes if re.fullmatch("[45][0-9][0-9]", code)]
    return _by_rules(max(statuses, default=None), complaint)


def _refused(exchange: Exchange, status: int) -> Failure:
    if 300 <= status < 400:
        where = one_line(exchange.fault_message) or "elsewhere"
        return _wrong_address("redirect", f"base_url redirects to {where}; put the right address into the job")
    if status in {404, 405} and is_web_page(exchange):
        message = f"this base_url answers HTTP {status} with a web page; did you leave out /v1?"
        return _wrong_address("web_page", message)
    complaint = find_complaint(exchange.body) or Complaint(plain_text(exchange))
    if not complaint.message:
        complaint = msgspec.structs.replace(complaint, message=f"HTTP {status} without a message")
    return _by_rules(status, complaint)


def _wrong_address(kind: str, message: str) -> Failure:
    """Judge what no API says: later in a run it may be a page that excuses a breakdown."""
    return Failure(Next.RETRY, kind, message, at_first=Next.STOP_RUN)


def _by_rules(status: int | None, complaint: Complaint) -> Failure:
    rule = rule_for(status, complaint)
    parameter, advice = parameters.advice(complaint) if rule.type == REFUSED_PARAMETER else ("", rule.advice)
    return Failure(
        rule.next,
        rule.type,
        f"{complaint.message}; {advice}" if advice else complaint.message,
        complaint.code or None,
        at_first=rule.at_first,
        attempts=rule.attempts,
        parameter=parameter,
    )
