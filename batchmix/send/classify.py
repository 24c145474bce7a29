"""What an exchange means: an answer, or a failure and what follows from it.

`judge` depends on nothing but the exchange and the path it was sent to, so that a journal can be judged again after
a crash. The rules follow AiHubMix's documentation and the published sources of its family (One API, New API); only
`message` of an error is sure, so rules look at status, code and message together, and the first that fits counts.
"""

from __future__ import annotations

import re

import msgspec

from batchmix.errors import Next
from batchmix.records import Completion, Exchange, Failure
from batchmix.send.answers import read_answer
from batchmix.send.complaints import Complaint, find_complaint, is_web_page, one_line, plain_text

WEB_PAGE = "web_page"
"""The type of a failure that came as HTML: before any good answer the address is wrong."""


class _Rule(msgspec.Struct, frozen=True):
    type: str
    next: Next
    statuses: frozenset[int]
    codes: frozenset[str] = frozenset()
    words: re.Pattern[str] | None = None
    """In the message. Where a rule has both codes and words, one of them is enough; with neither the status is."""
    advice: str = ""

    def fits(self, status: int | None, complaint: Complaint) -> bool:
        """Return whether the rule is about this error; without a status (inside a 200) codes and words decide."""
        if status is not None and status not in self.statuses:
            return False
        if not self.codes and self.words is None:
            return status is not None
        return not self.codes.isdisjoint(complaint.codes) or (
            self.words is not None and self.words.search(complaint.message) is not None
        )


def _rule(kind: str, following: Next, *statuses: int, codes: str = "", words: str = "", advice: str = "") -> _Rule:
    pattern = re.compile(words, re.IGNORECASE) if words else None
    return _Rule(kind, following, frozenset(statuses), frozenset(codes.split()), pattern, advice)


_TOP_UP = "top up the account, then give the same command again"
_SET_KEY = "set the key in the environment variable, then give the same command again"
_RULES = (
    # No money, under whatever status: before 401, 403 and 429 mean anything else.
    _rule("no_balance", Next.STOP_RUN, 402, advice=_TOP_UP),
    _rule(
        "no_balance", Next.STOP_RUN, 400, 401, 403, 429, 500, 503,
        codes="insufficient_user_quota insufficient_quota credit_balance_exhausted billing_hard_limit_reached"
              " billing_not_active pre_consume_token_quota_failed insufficient_balance",
        advice=_TOP_UP,
    ),
    # Gemini says "you exceeded your current quota, please retry in 7 s" when it throttles.
    _rule("throttled", Next.PAUSE, 429, words=r"retry (?:in|after) ~?\d|(?:requests|tokens) per (?:min|day|sec|hour)"),
    # Errors under 400 and 5xx may quote a prompt, so less is believed there.
    _rule("no_balance", Next.STOP_RUN, 400, 500, 503, words=r"your (?:credit |account )?balance is (?:insufficient|too low)|(?:用户|令牌)(?:余额|额度)不足|额度已用尽|预扣费额度失败", advice=_TOP_UP),
    _rule(
        "no_balance", Next.STOP_RUN, 401, 403, 429,
        words=r"balance is (?:insufficient|too low|not enough|exhausted)|insufficient (?:account |user )?(?:balance|credits?|funds|quota)"
              r"|exceeded your current quota|spend(?:ing)? (?:limit|cap)|quota (?:is )?(?:not enough|insufficient|exhausted|used up)"
              r"|not enough (?:credits?|balance)|余额不足|额度不足|(?:额度|余额)已?(?:用尽|用完|耗尽)|预扣费额度失败|欠费",
        advice=_TOP_UP,
    ),
    # The key is fine, the model is not.
    _rule(
        "model_denied", Next.STOP_MODEL, 400, 401, 403, 404, codes="model_access_denied",
        words=r"model access denied|does not exist or you do not have access|not (?:authorized|allowed) to access (?:the|this)(?: requested)? model"
              r"|do(?:es)? not have (?:access|permission) to (?:the |this )?model|无权(?:使用|访问).{0,20}模型",
        advice="choose a model that the key may use",
    ),
    _rule(
        "model_retired", Next.STOP_MODEL, 400, 403, 404, 410, codes="model_retired model_deprecated model_decommissioned",
        words=r"\bmodel\b.{0,100}\b(?:retired|been deprecated|decommissioned|no longer (?:available|supported))|模型.{0,60}已(?:下线|停用|弃用)",
        advice="choose its successor",
    ),
    _rule("model_retired", Next.STOP_MODEL, 410, advice="choose its successor"),
    _rule(
        "model_not_found", Next.STOP_MODEL, 400, 403, 404, 500, 503,
        codes="no_available_channel model_not_found model_not_exist invalid_model model_not_supported",
        words=r"incorrect model id|no available channels?\b|no such model|unknown model\b|is not a valid model"
              r"|\bmodel(?::? ?\S{1,120},?)? (?:is |was )?(?:not found|does not exist|not exist)|无可用渠道|模型.{0,60}不存在|不存在.{0,10}模型",
        advice="copy the model's id from the catalogue; capital letters count",
    ),
    # Who asks, and from where.
    _rule(
        "account_blocked", Next.STOP_RUN, 401, 403, codes="account_deactivated unsupported_country_region_territory ip_not_authorized",
        words=r"\b(?:account|user|organization|project|key|token)\b.{0,60}\b(?:is|was|been) (?:suspended|banned|disabled|deactivated|terminated)\b"
              r"|account (?:suspended|banned|blocked|disabled|deactivated)|\bip\b.{0,60}\b(?:blocked|not (?:allowed|authorized|permitted|in)\b)"
              r"|(?:country|region).{0,40}not supported|not in .{0,20}whitelist|封禁|禁用|白名单|\bip.{0,30}不在",
    ),
    _rule("invalid_key", Next.STOP_RUN, 401, advice=_SET_KEY),
    _rule("invalid_key", Next.STOP_RUN, 400, 403, codes="invalid_api_key authentication_error api_key_invalid",
          words=r"(?:invalid|incorrect|expired) api.?key|api.?key (?:is )?(?:not valid|invalid|expired)|invalid token \(|无效的令牌|令牌.{0,12}(?:过期|不可用|无效)", advice=_SET_KEY),
    _rule("proxy", Next.STOP_RUN, 407, advice="the proxy of the environment wants a user name and a password in its URL"),
    # This row.
    _rule("rejected", Next.REJECT, 400, 422, words=r"^\W*max_(?:completion_)?tokens\b.{0,60}too large"),
    _rule(
        "content_filter", Next.REJECT, 400, 403, 422, 451,
        codes="content_filter content_policy_violation data_inspection_failed sensitive_words_detected responsibleaipolicyviolation prohibited_content invalid_prompt",
        words=r"content.?(?:management )?(?:filter|policy|moderation)|safety (?:system|filter|settings)|sensitive (?:words|content)|usage polic(?:y|ies)"
              r"|inappropriate content|responsible ai|敏感(?:词|内容)|内容(?:安全|审核|违规)",
    ),
    _rule("content_filter", Next.REJECT, 451),
    _rule(
        "context_length", Next.REJECT, 400, 413, 422, codes="context_length_exceeded string_above_max_length context_window_exceeded exceed_context_size_error",
        words=r"context (?:length|window|size)|maximum (?:context|input|prompt)|too many (?:input |prompt )?tokens|(?:prompt|input|message)s? (?:is|are) too long"
              r"|input (?:token|length).{0,60}(?:exceed|limit|range)|range of input length|reduce the length|上下文(?:长度|窗口)|输入.{0,12}(?:过长|超出|超过)",
    ),
    _rule("rejected", Next.REJECT, 400, 413, 422, codes="invalid_request_error"),
    # Too fast.
    _rule("throttled", Next.PAUSE, 429),
    _rule("throttled", Next.PAUSE, 429, 503, codes="server_is_overloaded slow_down rate_limit_exceeded rate_limit_error",
          words=r"rate.?limit|too many requests|overloaded|slow down|请求过于频繁|请求过多|负载已饱和|限流"),
    # Nothing more to be had here.
    _rule("not_offered", Next.STOP_RUN, 501, advice="this endpoint is not offered; look at provider.base_url"),
    # Passing trouble.
    _rule("overloaded", Next.RETRY, 529),
    _rule("server_error", Next.RETRY, 408, 409, 425, 500, 502, 503, 504, *range(520, 529), 530),
)  # fmt: skip
_UNFUNDED = re.compile(
    r"accounts that have not been recharged can only try|未充值.{0,20}(?:账户|账号|用户).{0,20}次", re.IGNORECASE
)
_LONGEST_TRAP = 600


def judge(exchange: Exchange, path: str = "/chat/completions") -> Completion | Failure:
    """Return the answer in an exchange, or why there is none and what happens next. Never raises.

    A body that broke off is read all the same: a whole answer is an answer, and a refusal is known by its status.
    """
    fault, status = exchange.fault, exchange.status
    if (fault is None or fault == "cut_off") and status is not None:
        if 200 <= status < 300:
            answer = read_answer(exchange.body, path, exchange.served_model)
            if isinstance(answer, Completion):
                return _unless_unfunded(answer)
            if fault is None:
                return _broken(exchange, answer)
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
    return Failure(Next.STOP_RUN, "no_balance", f"{one_line(text)}; {_TOP_UP}")


def _broken(exchange: Exchange, problem: str) -> Failure:
    """Judge a 200 that holds no answer; `problem` says what it lacks."""
    if is_web_page(exchange):
        return Failure(Next.RETRY, WEB_PAGE, "this base_url answers a web page; did you leave out /v1?")
    complaint = find_complaint(exchange.body)
    if complaint is None:
        return Failure(Next.RETRY, "bad_answer" if exchange.body.strip() else "empty", f"the answer {problem}")
    statuses = [int(code) for code in complaint.codes if re.fullmatch("[45][0-9][0-9]", code)]
    return _by_rules(max(statuses, default=None), complaint)


def _refused(exchange: Exchange, status: int) -> Failure:
    if 300 <= status < 400:
        where = one_line(exchange.fault_message) or "elsewhere"
        return Failure(Next.STOP_RUN, "redirect", f"base_url redirects to {where}; put the right address into the job")
    if status in {404, 405} and is_web_page(exchange):
        message = f"this base_url answers HTTP {status} with a web page; did you leave out /v1?"
        return Failure(Next.RETRY, WEB_PAGE, message)
    complaint = find_complaint(exchange.body) or Complaint(plain_text(exchange))
    if not complaint.message:
        complaint = msgspec.structs.replace(complaint, message=f"HTTP {status} without a message")
    return _by_rules(status, complaint)


def _by_rules(status: int | None, complaint: Complaint) -> Failure:
    code = complaint.code or None
    for rule in _RULES:
        if rule.fits(status, complaint):
            advice = f"; {rule.advice}" if rule.advice else ""
            return Failure(rule.next, rule.type, f"{complaint.message}{advice}", code)
    if status is not None and 400 <= status < 500:
        return Failure(Next.REJECT, "rejected", complaint.message, code)
    return Failure(Next.RETRY, "server_error", complaint.message, code)
