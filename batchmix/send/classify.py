"""What an exchange means: an answer, or a failure and what follows from it.

`judge` depends on nothing but the exchange and the path it was sent to, so that a journal can be judged again after
a crash. The rules follow AiHubMix's documentation and the published sources of its family (One API); only `message`
of an error is sure, so rules look at status, code and message together, and the first that fits counts.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from batchmix.errors import Next
from batchmix.records import Completion, Exchange, Failure
from batchmix.send.answers import read_answer, read_json

WEB_PAGE = "web_page"
"""The type of a failure that came as HTML: before any good answer the address is wrong."""
_LONGEST_MESSAGE = 500
_OK = 200


class _Rule(msgspec.Struct, frozen=True):
    type: str
    next: Next
    statuses: frozenset[int]
    """Empty: any but 200."""
    codes: frozenset[str] = frozenset()
    words: re.Pattern[str] | None = None
    """In the message. Where a rule has both codes and words, one of them is enough; with neither the status is."""
    advice: str = ""

    def fits(self, status: int, code: str, message: str) -> bool:
        """Return whether the rule is about this error; an error inside a 200 has no status to go by."""
        if self.statuses and status not in self.statuses and (status != _OK or not (self.codes or self.words)):
            return False
        if not self.codes and self.words is None:
            return status in self.statuses
        return code in self.codes or (self.words is not None and self.words.search(message) is not None)


def _rule(kind: str, following: Next, *statuses: int, codes: str = "", words: str = "", advice: str = "") -> _Rule:
    pattern = re.compile(words, re.IGNORECASE) if words else None
    return _Rule(kind, following, frozenset(statuses), frozenset(codes.split()), pattern, advice)


_TOP_UP = "top up the account, then give the same command again"
_RULES = (
    # No money, under whatever status: before 401, 403 and 429 mean anything else.
    _rule("no_balance", Next.STOP_RUN, 402, advice=_TOP_UP),
    _rule(
        "no_balance", Next.STOP_RUN, 400, 401, 403, 429, 500, 503,
        codes="insufficient_user_quota insufficient_quota credit_balance_exhausted billing_hard_limit_reached"
              " billing_not_active pre_consume_token_quota_failed",
        words=r"balance is insufficient|insufficient (?:account )?balance|exceeded your current quota|credit balance|spend(?:ing)? limit"
              r"|quota is not enough|余额不足|额度不足|额度已用尽|额度已用完|预扣费额度失败",
        advice=_TOP_UP,
    ),
    # The key is fine, the model is not.
    _rule(
        "model_denied", Next.STOP_MODEL, 401, 403, 404,
        words=r"model access denied|does not exist or you do not have access|not authorized to access the requested model"
              r"|无权(?:使用|访问).{0,20}模型",
        advice="choose a model that the key may use",
    ),
    _rule("model_retired", Next.STOP_MODEL, 404, 410, codes="model_retired", words=r"\bretired\b|deprecated and no longer|已下线",
          advice="choose its successor"),
    _rule("model_retired", Next.STOP_MODEL, 410, advice="choose its successor"),
    _rule(
        "model_not_found", Next.STOP_MODEL, 400, 403, 404, 500, 503,
        codes="no_available_channel model_not_found model_not_exist invalid_model",
        words=r"incorrect model id|no available channel|model .{0,80}(?:not found|does not exist)|无可用渠道|模型不存在",
        advice="copy the model's id from the catalogue; capital letters count",
    ),
    # Who asks.
    _rule("account_blocked", Next.STOP_RUN, 401, 403, words=r"suspend|banned|disabled|ip .{0,40}not allowed|not in .{0,20}whitelist|封禁|禁用|白名单"),
    _rule("invalid_key", Next.STOP_RUN, 401, advice="set the key in the environment variable, then give the same command again"),
    # This row.
    _rule("content_filter", Next.REJECT, 400, 403, 422, 451, codes="content_filter content_policy_violation data_inspection_failed sensitive_words_detected",
          words=r"content (?:management )?(?:filter|policy)|safety system|sensitive words|敏感词|内容安全"),
    _rule("context_length", Next.REJECT, 400, 413, 422, codes="context_length_exceeded string_above_max_length",
          words=r"context (?:length|window)|maximum context|too many tokens|prompt is too long|input is too long|上下文长度"),
    # Too fast.
    _rule("throttled", Next.PAUSE, 429),
    _rule("throttled", Next.PAUSE, 503, 529, codes="server_is_overloaded slow_down rate_limit_exceeded",
          words=r"rate.?limit|too many requests|overloaded|slow down|请求过于频繁|上游负载已饱和"),
    # Nothing more to be had here.
    _rule("not_offered", Next.STOP_RUN, 501, advice="this endpoint is not offered; look at provider.base_url"),
    # Passing trouble.
    _rule("server_error", Next.RETRY, 408, 409, 425, 500, 502, 503, 504, *range(520, 528), 529, 530),
    # An error object inside a 200 says by its words what status it should have had.
    _rule("throttled", Next.PAUSE, _OK, codes="429 rate_limit_exceeded slow_down", words=r"too many requests|rate limited by provider"),
    _rule("invalid_key", Next.STOP_RUN, _OK, codes="401 invalid_api_key", words=r"invalid (?:api key|token)|incorrect api key|无效的令牌"),
    _rule("rejected", Next.REJECT, _OK, codes="400 413 422 invalid_request_error"),
)  # fmt: skip
_FAULTS_THAT_END = {"too_large"}
_UNFUNDED = re.compile(
    r"accounts that have not been recharged can only try|未充值.{0,20}(?:账户|账号|用户).{0,20}次", re.IGNORECASE
)
_LONGEST_TRAP = 600


def judge(exchange: Exchange, path: str = "/chat/completions") -> Completion | Failure:
    """Return the answer in an exchange, or why there is none and what happens next. Never raises."""
    if exchange.fault is not None and exchange.fault != "cut_off":
        following = Next.REJECT if exchange.fault in _FAULTS_THAT_END else Next.RETRY
        return Failure(following, exchange.fault, exchange.fault_message)
    if exchange.status == _OK:
        answer = read_answer(exchange.body, path, exchange.served_model)
        if isinstance(answer, Completion):
            return _unless_unfunded(answer)
        if exchange.fault is None:
            return _broken(exchange, answer)
    if exchange.fault is not None:
        return Failure(Next.RETRY, exchange.fault, exchange.fault_message)
    return _refused(exchange)


def _unless_unfunded(answer: Completion) -> Completion | Failure:
    text = answer.response
    if text is not None and len(text) <= _LONGEST_TRAP and _UNFUNDED.search(text):
        return Failure(Next.STOP_RUN, "no_balance", f"{one_line(text)}; {_TOP_UP}")
    return answer


def _broken(exchange: Exchange, problem: str) -> Failure:
    """Judge a 200 that holds no answer; `problem` says what it lacks."""
    if _is_web_page(exchange):
        return Failure(Next.RETRY, WEB_PAGE, "this base_url answers a web page; did you leave out /v1?")
    found = read_json(exchange.body)
    error = _error_in(found)
    if error is None:
        kind = "empty" if not exchange.body.strip() else "bad_answer"
        return Failure(Next.RETRY, kind, f"the answer {problem}")
    return _by_rules(_OK, *error) or Failure(Next.RETRY, "server_error", error[1], error[0] or None)


def _refused(exchange: Exchange) -> Failure:
    status = exchange.status or 0
    if 300 <= status < 400:
        where = exchange.fault_message or "elsewhere"
        return Failure(Next.STOP_RUN, "redirect", f"base_url redirects to {where}; put the right address into the job")
    code, message = _error_in(read_json(exchange.body)) or ("", _text_of(exchange))
    message = message or f"HTTP {status} without a message"
    failure = _by_rules(status, code, message)
    if failure is None:
        client_error = 400 <= status < 500
        kind, following = ("rejected", Next.REJECT) if client_error else ("server_error", Next.RETRY)
        failure = Failure(following, kind, message, code or None)
    return failure


def _by_rules(status: int, code: str, message: str) -> Failure | None:
    for rule in _RULES:
        if rule.fits(status, code, message):
            advice = f"; {rule.advice}" if rule.advice else ""
            return Failure(rule.next, rule.type, f"{message}{advice}", code or None)
    return None


def _error_in(found: Any) -> tuple[str, str] | None:
    """Return code and message of the error in a body, or None. Servers put it in many places."""
    if not isinstance(found, dict):
        return None
    error = found.get("error")
    if error in (None, "", {}, False):
        if "choices" in found or not (found.get("message") or found.get("detail")):
            return None
        error = {"message": found.get("message") or found.get("detail"), "code": found.get("code")}
    if not isinstance(error, dict):
        return "", one_line(_as_text(error))
    code = error.get("code")
    if code in (None, ""):
        code = error.get("type")
    message = error.get("message") or error.get("detail") or error
    return one_line(_as_text(code))[:100] if code not in (None, "") else "", one_line(_as_text(message))


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except (ValueError, TypeError, RecursionError):
        return type(value).__name__


def _is_web_page(exchange: Exchange) -> bool:
    start = exchange.body[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"<") or ("html" in exchange.content_type.lower() and not start.startswith((b"{", b"[")))


def _text_of(exchange: Exchange) -> str:
    if _is_web_page(exchange):
        return f"HTTP {exchange.status} with a web page"
    return one_line(exchange.body[: 4 * _LONGEST_MESSAGE].decode("utf-8", "replace"))


def one_line(text: str) -> str:
    """Return text as one printable line of bounded length."""
    text = " ".join(text[: 4 * _LONGEST_MESSAGE].encode("utf-8", "replace").decode().split())
    text = "".join(char for char in text if char.isprintable())
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
