"""The rules that say what an error means and which action to take.

To add a rule, add a line to `RULES`, and its case to the tests. A line is a `_JobRule` if only a change of the job or
of the command helps, and otherwise a `Rule`. The first rule that matches applies. Only a message is sent by all
providers, so a rule looks at the HTTP status, the provider's code and the message. Sources are AiHubMix's page of HTTP
codes, the published code of the related gateways One API and New API, and known errors of the providers behind them. A
doubtful error gets the mildest action: stopping a run by mistake costs hours and rejecting a row by mistake loses its
answer, while an extra attempt costs little.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection

import msgspec

from batchmix.errors import FailureAction
from batchmix.responses.error_body import ProviderError, without_quotes

REFUSED_PARAMETER = "refused_parameter"
"""The type of a failure whose advice names the parameter."""
FEW_ATTEMPTS = 3
"""The maximum number of attempts at a row if its error is unknown, or if each attempt is billed without an answer."""


class Rule(msgspec.Struct, frozen=True):
    """One line of the table `RULES`."""

    type: str
    action: FailureAction
    statuses: Collection[int] = ()
    """The HTTP statuses that the rule applies to. Empty for all."""
    codes: frozenset[str] = frozenset()
    message: re.Pattern[str] | None = None
    """Searched for in the message. A code or the message must match. In a rule with neither, the status decides."""
    advice: str = ""
    """What the user can do about the error."""
    attempts: int | None = None
    """The maximum number of attempts at a row with this error, if lower than the job's."""
    early_action: FailureAction | None = None
    """The action if several rows fail like this before the first good answer. After one, the job can't be at fault."""
    may_be_throttling: bool = False
    """Whether the error means that requests are sent too fast if others are answered at the same time."""
    may_be_overload: bool = False
    """Whether the error means the same if many requests fail like this while others are answered."""
    needs_job_change: bool = False
    """Whether only a change of the job or the command can help once this error has stopped a model."""

    def matches(self, status: int | None, codes: frozenset[str], message: str) -> bool:
        """Return whether the rule applies to an error. `status` is None for a 200 whose body names no other status."""
        if status is not None and self.statuses and status not in self.statuses:
            return False
        if not self.codes and self.message is None:
            return status is not None
        return not self.codes.isdisjoint(codes) or (
            self.message is not None and self.message.search(message) is not None
        )


_JobRule = functools.partial(Rule, needs_job_change=True)


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _pattern(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


# Faults of the gateway itself. Some have the status with which the provider behind the gateway answered.
_GATEWAY_CODES = _codes("""
    do_request_failed get_channel_failed read_response_body_failed bad_response bad_response_body empty_response
    query_data_error update_data_error token_concurrency_unavailable channel:no_available_key channel:invalid_key
    channel:model_mapped_error channel:aws_client_error channel:response_time_exceeded channel:param_override_invalid
    channel:header_override_invalid""")
_GATEWAY_MESSAGES = _pattern("failed to get available channel", "可用渠道失败", "database query error", "数据库错误|数据库查询出错")  # fmt: skip
_PROVIDER_MESSAGES = _pattern("^provider returned error")

_OWN_MONEY_CODES = _codes("insufficient_user_quota pre_consume_token_quota_failed budget_exceeded")
_MONEY_CODES = _OWN_MONEY_CODES | _codes("""
    insufficient_quota insufficient_balance credit_balance_exhausted billing_hard_limit_reached billing_not_active
    exceeded_current_quota_error arrearage accountoverdueerror operationdenied.serviceoverdue""")
_MONEY_MESSAGES = _pattern(
    r"balance is (?:insufficient|too low|not enough|exhausted|overdue)", r"overdue balance", r"is in arrears",
    r"insufficient (?:account |user )?(?:balance|credits?|funds|quota)", r"used all available credits",
    r"exceeded your current quota", r"not enough (?:credits?|balance)", r"budget has been exceeded|exceededbudget",
    r"spend(?:ing)? (?:limit|cap)", r"out of call volume quota", r"reached .{0,30}usage limits?\b", r"quota (?:is )?(?:not enough|insufficient|exhausted|used up)",
    r"余额不足|额度不足|(?:额度|余额)已?(?:用尽|用完|耗尽)|预扣费额度失败|欠费",
)  # fmt: skip
# With 400, 500 and 503 a gateway passes on its provider's message, which may quote a prompt, so these are narrow.
_PASSED_MONEY_MESSAGES = _pattern(
    r"your (?:credit |account )?balance is (?:insufficient|too low)", r"your specified api usage limits",
    r"your account is in good standing", r"(?:用户|令牌)(?:余额|额度)不足|额度已用尽|预扣费额度失败",
)  # fmt: skip
_PAID_MODEL_MESSAGES = _pattern("selected model requires paid balance")
_PARAMETER_CODES = _codes("unsupported_parameter unsupported_value unknown_parameter")
_PARAMETER_MESSAGES = _pattern(
    r"unsupported (?:parameter|value)", r"(?:un|not )recognized request argument", r"does not support parameters?\b",
    r"argument not supported", r"^\W*[\w.]+: extra inputs are not permitted", r"only \S{1,20} is allowed for this model",
    r"(?:unknown|unexpected) (?:parameter|name|field|argument)\b", r"cannot both be specified",
    r"(?:is|been) (?:deprecated|not supported|unsupported) (?:for|with|by|on) this model",
    r"(?:parameter|field|argument|option) \S{1,60} (?:is|has been) (?:deprecated|not|no longer|unsupported)",
    r"^\W*max_(?:completion_)?tokens\b.{0,60}(?:too large|maximum)", r"^\W*\w+\W? (?:is deprecated|must be (?:less|at most|between))",
)  # fmt: skip

_DENIED_CODES = _codes("""
    model_access_denied key_model_access_denied team_model_access_denied modelnotopen accessdenied.unpurchased
    allocationquota.freetieronly setlimitexceeded""")
_DENIED_MESSAGES = _pattern(
    r"model access denied", r"access to model denied", r"does not exist or you do not have access",
    r"not (?:authorized|allowed) to (?:access|use|sample from) (?:(?:the|this) )?(?:requested )?models?\b",
    r"not have (?:access|permission) to (?:use )?(?:(?:the|this) )?model", r"no access to (?:model|any model)",
    r"must be verified to (?:use|stream) (?:the|this) model", r"has not activated the model",
    r"not found the model .{0,120} or permission denied", r"n['’]t have access to the model\b", r"^model (?:is )?disabled\b",
    r"not have permission to use the specified resource", r"received model group=",
    r"无权(?:使用|访问).{0,20}模型",
)  # fmt: skip
_RETIRED_CODES = _codes("model_retired model_deprecated model_decommissioned")
_RETIRED_MESSAGES = _pattern(r"\bmodel\b.{0,100}\b(?:retired|been deprecated|decommissioned|no longer (?:available|supported))", r"模型.{0,60}已(?:下线|停用|弃用)")  # fmt: skip
_NO_MODEL_CODES = _codes("""
    no_available_channel model_not_found model_not_exist invalid_model model_not_supported modelnotfound
    deploymentnotfound model_not_available model_price_error invalidendpointormodel.notfound""")
_NO_CHANNEL = r"incorrect model id|no available channels?\b|无可用渠道"
_NO_CHANNEL_MESSAGES = _pattern(_NO_CHANNEL)
_NO_MODEL_MESSAGES = _pattern(
    _NO_CHANNEL, r"no such model", r"unknown model\b(?! error)", r"is not a valid model", r"^\W*model: \S+(?: \(|$)",
    r"model identifier is invalid", r"invalid model(?: name| id)?(?::| passed| specified|$)", r"\bmodels/\S{1,120} is not found", r"no endpoints found(?! that support)",
    r"api deployment for this resource does not exist",
    r"\bmodel(?::? ?\S{1,120},?)? (?:is |was )?(?:not found|does not exist|not exist)",
    r"模型.{0,60}不存在|不存在.{0,10}模型",
)  # fmt: skip

# Only for a path that does not exist. Other things that do not exist, such as a file, may be named by the row.
_NO_PATH_MESSAGES = _pattern(
    r"^\W*(?:404\W+)?(?:(?:the )?(?:requested )?(?:api|endpoint|file|page|path|resource|route|url) )?(?:is |was )?not found\b\W*(?:$|[/(])",
    r"\b(?:invalid|unrecognized|unknown) (?:request )?(?:url|path|endpoint|route)\b", r"^cannot post\b", r"\bno route\b",
    r"^(?:api|endpoint|path|route|url) not found\b", r"^HTTP \d+ without a message$",
)  # fmt: skip

_OTHER_ENDPOINT_MESSAGES = _pattern(
    r"\bnot a chat model\b", r"only supported in v1/", r"not supported in the v1/", r"with on-demand throughput isn['’]t supported",
)  # fmt: skip

_BLOCKED_CODES = _codes("account_deactivated unsupported_country_region_territory ip_not_authorized")
_BLOCKED_MESSAGES = _pattern(
    r"\b(?:account|user|organization|project|consumer|key|token)\b.{0,60}\b(?:is|was|been) (?:suspended|banned|disabled|deactivated|locked|terminated)\b",
    r"account (?:suspended|banned|blocked|disabled|deactivated)", r"\bip ranges?\b", r"virtual network|firewall rules",
    r"\bip\b.{0,60}\b(?:blocked|not (?:allowed|authorized|permitted|in)\b)",
    r"(?:country|region).{0,40}not supported|not in .{0,20}whitelist",
    r"(?:用户|账户|账号|令牌|密钥).{0,12}(?:封禁|禁用|冻结)|白名单|网段|\bip.{0,30}不在|无权访问.{0,40}分组|分组.{0,40}已被弃用",
)  # fmt: skip
_COUNTRY_MESSAGES = _pattern(r"location is not supported", r"(?:country|region).{0,40}not supported")
_KEY_CODES = _codes("invalid_api_key authentication_error api_key_invalid invalidapikey")
_KEY_MESSAGES = _pattern(
    r"(?:invalid|incorrect|expired) api.?key", r"api.?key (?:is )?(?:not valid|invalid|expired)", r"^key error\b",
    r"^invalid token(?: \(|$)", r"无效的令牌|令牌.{0,12}(?:过期|不可用|无效)",
)  # fmt: skip

_FILTER_CODES = _codes("""
    content_filter content_policy_violation data_inspection_failed datainspectionfailed sensitive_words_detected
    prompt_blocked responsibleaipolicyviolation prohibited_content invalid_prompt violation_fee.grok.csam
    sensitivecontentdetected""")
_FILTER_MESSAGES = _pattern(
    r"content.?(?:management )?(?:filter|policy|moderation)", r"safety (?:system|filter|settings)",
    r"sensitive (?:words|content|information)", r"usage polic(?:y|ies)", r"inappropriate content", r"responsible ai",
    r"considered high risk", r"input (?:was )?flagged", r"requires moderation", r"敏感(?:词|内容)|内容(?:安全|审核|违规)",
)  # fmt: skip
# llama.cpp answers 500 to a request with something that it does not support.
_UNSUPPORTED_MESSAGES = _pattern(
    r"\b(?:is|are) not (?:currently |yet )?supported\b", r"^\W*unsupported (?:param|content)", r"^this server does not support",
    r"^assistant response prefill is", r"^cannot have 2 or more assistant messages", r"^(?:json_schema_to_grammar|json schema conversion)\b",
    r"^failed to (?:parse|load|initialize) (?:messages|tools|grammar|image|audio|samplers)", r"\bparam requires\b",
    r"^only (?:one completion choice|no echo)\b", r"^cannot use (?:custom grammar|both)\b", r"^invalid tool_choice\b",
    r"^(?:missing|expected) '\w+'", r"^(?:'\w+'|\"\w+\") is required\b", r"^top_logprobs requires\b",
)  # fmt: skip
_LENGTH_CODES = _codes("""
    context_length_exceeded string_above_max_length context_window_exceeded exceed_context_size_error
    prompt_too_long text_too_long""")
_LENGTH_MESSAGES = _pattern(
    r"context (?:length|window|size)", r"maximum (?:context|input|prompt)", r"too many (?:input |prompt )?tokens",
    r"(?:prompt|input|message)s? (?:is|are) too long", r"input (?:token|length).{0,60}(?:exceed|limit|range)",
    r"range of input length", r"reduce the length", r"exceeded model token limit", r"prompt contains \d+ tokens",
    r"`inputs` tokens", r"prompt ?超长", r"上下文(?:长度|窗口)|输入.{0,12}(?:过长|超出|超过)",
)  # fmt: skip
# With status 500 "context" may mean anything, so only LiteLLM's name for the error and llama.cpp's messages count.
_TOO_LONG_MESSAGES = _pattern("contextwindowexceeded", r"maximum context length is \d", "exceeds the available context size", "is too large to process")  # fmt: skip
_NEVER_FITS_MESSAGES = _pattern(r"request too large for", r"tokens must be reduced")

# These mean a rate limit even if the code names a quota, as Gemini's and Qwen's do. Qwen's is recognized by its link.
_RATE_MESSAGES = _pattern(
    r"(?:retry|try again) (?:in|after) ~?\d", r"(?:requests|tokens) per (?:min|day|sec|hour)", r"\b[RT]P[MD]\b",
    r"\b(?:quota|limit)s? (?:will )?resets? (?:in|after|at)\b", r"(?:aliyun|alibabacloud)\.com",
)  # fmt: skip
_RATE_CODES = _codes("""
    rate_limit_exceeded rate_limit_error rate_limited ratelimitexceeded too_many_requests resource_exhausted 429""")
_SLOW_DOWN_CODES = _RATE_CODES | _codes("server_is_overloaded slow_down serveroverloaded")
_TOO_FAST_MESSAGES = _pattern(
    r"rate.?limit", r"rate exceeded", r"\bthrottled\b", r"concurrency limit", r"quota exceeded .{0,80}\bper (?:min|sec|hour|day)", r"too many requests", r"resource.?(?:has been )?exhausted",
    r"请求过于频繁|请求过多|请求频率|负载已饱和|限流|限速",
)  # fmt: skip
_THROTTLING_CODES = _codes("throttlingexception toomanyrequestsexception throttling throttling.ratequota")
_THROTTLING_MESSAGES = _pattern("throttling ?exception|toomanyrequestsexception", r"too many (?:tokens|requests)(?: per \w+)?, please wait before trying again")  # fmt: skip
_SLOW_DOWN_MESSAGES = _pattern("rate.?limit|too many requests|overloaded|slow down|load is saturated|request limit reached", "请求过于频繁|请求过多|负载已饱和|限流|限速|并发数过高")  # fmt: skip
# Proxies say so without a word: nginx (`limit_req`, `limit_conn`), HAProxy (a full queue) and Envoy (overflow) with 503.
_BUSY_STATUSES = (503, 509, 529)
_OVERLOAD_STATUSES = (502, 520, 521, 522)  # nginx (`max_conns`), Cloudflare. After 504 and 524 an answer may be billed.
_BUSY_MESSAGES = _pattern(r"\b(?:server|service|system|model|engine)s?(?: is| are)? (?:\w+ )?busy\b", "繁忙")

_AGAIN = "then give the same command again"
TOP_UP = f"top up the account, {_AGAIN}"
_TOP_UP_OR_LESS = f"top up the account, or lower max_tokens or limits.concurrency, {_AGAIN}"
_SET_KEY = f"set the right key in the environment variable that provider.api_key_env names, {_AGAIN}"
_TOP_UP_THERE = "the account that pays for this model is empty: top it up, or choose another model"
_OTHER_MODEL = "choose a model that the key may use"
_COPY_ID = "copy the model's id from the catalogue; capital letters count"
_SUCCESSOR = "choose its successor"
_OTHER_ENDPOINT = "choose another model, or the endpoint that this one has"
_NOT_OFFERED = "this endpoint is not offered; look at provider.base_url"
_LOOK_AT_URL = "look at provider.base_url, and at the model's id"
_REJECT, _RETRY, _PAUSE = FailureAction.REJECT, FailureAction.RETRY, FailureAction.PAUSE
_STOP_PATH, _STOP_MODEL, _STOP_RUN = FailureAction.STOP_PATH, FailureAction.STOP_MODEL, FailureAction.STOP_RUN
_SERVER_CODES = _codes("""
    server_error internal_server_error internal_error internalservererror api_error service_unavailable unavailable
    bad_gateway upstream_error timeout gateway_timeout""")
_REQUEST_STATUSES = (400, 406, 411, 413, 414, 415, 417, 422, 431)
_TEMPORARY = (408, 409, 421, 423, 424, 425, 499, 500, 502, 503, 504, *range(520, 529), 530)
_RATE_LIMIT_STATUSES = (400, 404, 422, 529, *_TEMPORARY)
"""Statuses with which gateways pass on a rate limit. Not 401 and 403, which concern the key, nor 413, the size."""

RULES = (
    # Faults of the gateway, or of its own accounts with providers: this run's key is not at fault.
    Rule("server_error", _RETRY, codes=_GATEWAY_CODES, message=_GATEWAY_MESSAGES),
    Rule("server_error", _RETRY, (401, 402, 403, 404), _codes("upstream_error"), _PROVIDER_MESSAGES),
    # Bedrock's "too many tokens" means a rate limit, with every status that a gateway passes it on with.
    Rule("throttled", _PAUSE, codes=_THROTTLING_CODES, message=_THROTTLING_MESSAGES),
    # No money. These rules come before those that give 401, 403 and 429 another meaning.
    _JobRule("context_length", _REJECT, (413, 429), message=_NEVER_FITS_MESSAGES),
    Rule("throttled", _PAUSE, (429,), message=_RATE_MESSAGES),
    Rule("no_balance", _STOP_RUN, (402,), advice=_TOP_UP_OR_LESS),
    Rule("no_balance", _STOP_RUN, codes=_OWN_MONEY_CODES, advice=_TOP_UP_OR_LESS),
    Rule("no_balance", _STOP_MODEL, (403,), message=_PAID_MODEL_MESSAGES, advice=_TOP_UP_THERE),
    Rule("no_balance", _STOP_RUN, (401, 403, 412, 429), _MONEY_CODES, _MONEY_MESSAGES, TOP_UP),
    Rule("no_balance", _STOP_MODEL, (400, 500, 503), _MONEY_CODES, _PASSED_MONEY_MESSAGES, _TOP_UP_THERE),
    # The parameters or the model are at fault, not the key, although the status may suggest the key.
    _JobRule(REFUSED_PARAMETER, _REJECT, (400, 422), _PARAMETER_CODES, _PARAMETER_MESSAGES),
    _JobRule("model_denied", _STOP_MODEL, (400, 401, 403, 404, 429), _DENIED_CODES, _DENIED_MESSAGES, _OTHER_MODEL),
    _JobRule("model_retired", _STOP_MODEL, (400, 403, 404, 410), _RETIRED_CODES, _RETIRED_MESSAGES, _SUCCESSOR),
    _JobRule("model_retired", _STOP_MODEL, (410,), advice=_SUCCESSOR),
    _JobRule("model_not_found", _STOP_MODEL, (400, 403, 404, 422), _NO_MODEL_CODES, _NO_MODEL_MESSAGES, _COPY_ID),
    _JobRule("model_not_found", _RETRY, (500, 503), _NO_MODEL_CODES, _NO_CHANNEL_MESSAGES, _COPY_ID, early_action=_STOP_MODEL),
    _JobRule("wrong_endpoint", _STOP_PATH, (400, 404), message=_OTHER_ENDPOINT_MESSAGES, advice=_OTHER_ENDPOINT),
    # The key, the account, or the address that the request comes from.
    Rule("server_error", _RETRY, (400,), message=_COUNTRY_MESSAGES, attempts=FEW_ATTEMPTS),
    Rule("account_blocked", _STOP_RUN, (401, 403, 412), _BLOCKED_CODES, _BLOCKED_MESSAGES, f"ask the provider, {_AGAIN}"),
    Rule("invalid_key", _STOP_RUN, (401,), advice=_SET_KEY),
    Rule("invalid_key", _STOP_RUN, (403,), _KEY_CODES, _KEY_MESSAGES, _SET_KEY),
    Rule("invalid_key", _STOP_MODEL, (400,), _KEY_CODES, _KEY_MESSAGES, _SET_KEY),
    Rule("proxy", _STOP_RUN, (407,), advice="the proxy of the environment wants a user name and a password in its URL"),
    # The row itself.
    _JobRule("content_filter", _REJECT, (400, 403, 422, 451), _FILTER_CODES, _FILTER_MESSAGES),
    _JobRule("content_filter", _REJECT, (451,)),
    _JobRule("content_filter", _REJECT, (500,), _FILTER_CODES),
    _JobRule("context_length", _REJECT, (400, 413, 422), _LENGTH_CODES, _LENGTH_MESSAGES),
    _JobRule("context_length", _REJECT, (500,), _codes("exceed_context_size_error"), _TOO_LONG_MESSAGES),
    _JobRule("rejected", _REJECT, _REQUEST_STATUSES, _codes("invalid_request_error")),
    _JobRule("rejected", _REJECT, (500,), _codes("invalid_request bad_request_body"), _UNSUPPORTED_MESSAGES),
    _JobRule("rejected", _REJECT, (404,), message=_pattern("no endpoints found that support")),
    # Rate limits.
    Rule("throttled", _PAUSE, (429,)),
    Rule("throttled", _PAUSE, (403, 429, 503), _SLOW_DOWN_CODES, _SLOW_DOWN_MESSAGES),
    Rule("throttled", _PAUSE, _RATE_LIMIT_STATUSES, _RATE_CODES, _TOO_FAST_MESSAGES),
    # A path that does not exist.
    _JobRule("not_offered", _RETRY, (501,), advice=_NOT_OFFERED, attempts=FEW_ATTEMPTS, early_action=_STOP_PATH),
    _JobRule("not_found", _RETRY, (404,), message=_NO_PATH_MESSAGES, advice=_LOOK_AT_URL, attempts=FEW_ATTEMPTS, early_action=_STOP_PATH),
    _JobRule("not_found", _RETRY, (405,), advice=_LOOK_AT_URL, attempts=FEW_ATTEMPTS, early_action=_STOP_PATH),
    # Temporary faults.
    Rule("overloaded", _RETRY, (529,), may_be_throttling=True),
    Rule("server_error", _RETRY, _BUSY_STATUSES, may_be_throttling=True),
    Rule("server_error", _RETRY, _TEMPORARY, _codes("overloaded_error"), _BUSY_MESSAGES, may_be_throttling=True),
    Rule("server_error", _RETRY, _OVERLOAD_STATUSES, may_be_overload=True),
    Rule("server_error", _RETRY, _TEMPORARY, _SERVER_CODES),
    Rule("server_error", _RETRY, _TEMPORARY),
    # The rest.
    _JobRule("rejected", _REJECT, _REQUEST_STATUSES),
    _JobRule("not_found", _RETRY, (404,), advice=_LOOK_AT_URL, attempts=FEW_ATTEMPTS),
)  # fmt: skip
UNKNOWN = _JobRule("unknown", FailureAction.RETRY, attempts=FEW_ATTEMPTS)
"""The rule for an error that no other rule matches."""
_WRONG_ADDRESS = {"redirect", "web_page", "tls"}
JOB_FAILURES = _WRONG_ADDRESS | {rule.type for rule in (*RULES, UNKNOWN) if rule.needs_job_change}
"""The types of failures that need a change of the job: those of `_JobRule`s, and those due to a wrong `base_url`."""


def rule_for(status: int | None, error: ProviderError) -> Rule:
    """Return the first rule that matches an error. `status` is None for a 200 whose body names no other status."""
    message = without_quotes(error.message)
    return next((rule for rule in RULES if rule.matches(status, error.codes, message)), UNKNOWN)
