"""The one table of what can become of a request; a new kind is a new line here.

Statuses, codes and messages are those of AiHubMix and of the gateways and providers behind it.
"""

from __future__ import annotations

from functools import partial

from batchmix.rehearsal import oddities, streams
from batchmix.rehearsal.reply_kind import Error, Group, Kind, Retry, Wire

WEB_PAGE = b"<!doctype html><html><head><title>A gateway</title></head><body>Welcome</body></html>"
_BAD, _RATE, _SERVER, _MONEY, _AUTH = (
    "invalid_request_error",
    "rate_limit_error",
    "server_error",
    "billing_error",
    "authentication_error",
)
_RESPONSES, _EMBEDDINGS = "/v1/responses", "/v1/embeddings"
_answer = partial(Kind, group=Group.ANSWERS, answer=True)
_passing = partial(Kind, group=Group.PASSING)
_refused = partial(Kind, group=Group.REFUSALS)
_broken = partial(Kind, group=Group.BROKEN)
_stream = partial(Kind, group=Group.STREAMS)
_door = partial(Kind, group=Group.DOOR, late=False)
_page = partial(Kind, body=WEB_PAGE, content_type="text/html", trace="")
_THROTTLED = Error("Too many requests", _RATE, "rate_limit_exceeded")
_WRONG_MODEL = Error("Incorrect model ID. Please request to view the available models: {model}")
_NO_CHANNEL = Error("No available channel for model {model}", code="no_available_channel")
_POOR = "Your balance is insufficient"

KINDS: dict[str, Kind] = {
    "answer": _answer("the plain answer"),
    "echo": _answer("the prompt's own text", echoes=True),
    "filter": _answer("`finish_reason` is `content_filter`", shape=oddities.filtered),
    "null": _answer("`content` is null", shape=oddities.content(None)),
    "no_content": _answer("`content` is missing", shape=oddities.no_content),
    "blank": _answer("`content` is an empty text", shape=oddities.content("")),
    "refusal": _answer("a `refusal` instead of the content", shape=oddities.refusal),
    "tools": _answer("`tool_calls` instead of the content", shape=oddities.tools),
    "reasoning": _answer("`reasoning_content` beside the content", shape=oddities.reasoning),
    "reasoning_details": _answer("`reasoning_details` beside the content", shape=oddities.reasoning_details),
    "only_reasoning": _answer("empty content, `reasoning_content`, and `finish_reason` is `length`", shape=oddities.only_reasoning),
    "parts": _answer("the content as a list of parts", shape=oddities.parts),
    "nul": _answer("a NUL character in the content", shape=oddities.around("a\0b ")),
    "surrogate": _answer("an escaped lone surrogate in the content", shape=oddities.around("\ud800 "), recode=oddities.escaped),
    "control_codes": _answer("terminal control codes in the content", shape=oddities.around("\x1b[31m\x1b]0;title\x07\x9b2J ", "\x1b[0m\r\b")),
    "markup": _answer("HTML with a script in the content", shape=oddities.around("</script><script>alert(1)</script><img src=x onerror=alert(1)> ")),
    "large": _answer("5 MB of content", shape=oddities.large),
    "one_choice": _answer("one choice, whatever `n` is", reshape=oddities.one_choice),
    "no_usage": _answer("`usage` is missing", reshape=oddities.without("usage")),
    "null_usage": _answer("`usage` is null", reshape=oddities.with_field("usage", None)),
    "zero_usage": _answer("`usage` is all zeros", reshape=oddities.zero_usage),
    "claude_usage": _answer("`usage` with `claude_cache_tokens_details` for all details", reshape=oddities.claude_usage),
    "deepseek_usage": _answer("`usage` without details, the cache counted DeepSeek's way", reshape=oddities.deepseek_usage),
    "float_usage": _answer("token counts such as `150.0`", recode=oddities.float_usage),
    "huge": _answer("an integer beyond 64 bits", recode=oddities.huge),
    "nan": _answer("a `NaN` among the fields", recode=oddities.nan),
    "pretty": _answer("indented JSON between empty lines", recode=oddities.pretty),
    "bom": _answer("a byte order mark before the JSON", recode=oddities.marked),
    "text_plain": _answer("JSON that is sent as text/plain", content_type="text/plain; charset=utf-8"),
    "dated_model": _answer("the body's `model` is another name", reshape=oddities.dated_model),
    "fallback": _answer("headers that name another model as the one that answered", headers=(("X-Aihubmix-Fallback", "true"), ("X-Aihubmix-Router-Resolved-Model", "fallback-model"))),
    "object": _answer("an object as the content", shape=oddities.content({"city": "Zürich"})),
    "turned": _answer("the choices in the reverse order", reshape=oddities.turned("choices")),
    "empty_error": _answer("an `error` of empty fields beside the choices", reshape=oddities.with_field("error", {"message": "", "type": None, "code": None})),
    "unasked": _answer("an event stream that was not requested", recode=oddities.streamed, content_type="text/event-stream"),
    "incomplete": _answer("a response that is incomplete", reshape=oddities.incomplete, endpoint=_RESPONSES),
    "turned_vectors": _answer("the embeddings in the reverse order", reshape=oddities.turned("data"), endpoint=_EMBEDDINGS),
    "drip": _answer("the bytes come slowly, within `slow_s`", wire=Wire.DRIP),
    "408": _passing("request timeout", status=408, body=Error("Request timeout", "timeout")),
    "409": _passing("conflict", status=409, body=Error("The request conflicts with another", "conflict")),
    "418": _passing("an unknown error code", status=418, body=Error("The flux is out of phase", code="flux_phase")),
    "429": _passing("throttled, with Retry-After and retry-after-ms", status=429, body=_THROTTLED, retry=Retry.USUAL),
    "429_seconds": _passing("throttled, with Retry-After in seconds", status=429, body=_THROTTLED, retry=Retry.SECONDS),
    "429_date": _passing("throttled, with Retry-After as a date", status=429, body=_THROTTLED, retry=Retry.DATE),
    "429_ms": _passing("throttled, with retry-after-ms", status=429, body=_THROTTLED, retry=Retry.MS),
    "429_litellm": _passing("throttled, with llm_provider-retry-after", status=429, body=_THROTTLED, retry=Retry.LITELLM),
    "429_bare": _passing("throttled, with no header about it", status=429, body=_THROTTLED),
    "429_provider": _passing("throttled by the provider behind", status=429, body=Error("Rate limited by provider, please try again later")),
    "429_slow_down": _passing("throttled, `slow_down`", status=429, body=Error("Slow down", _RATE, "slow_down")),
    "429_words": _passing("throttled, with the wait only in the message", status=429, body=Error("Rate limit reached. Please try again in 1.2s", _RATE, "rate_limit_exceeded")),
    "400_throttled": _passing("throttled, in Bedrock's form", status=400, body=Error("ThrottlingException: Too many tokens, please wait before trying again.")),
    "500_throttled": _passing("throttled, under the wrong status", status=500, body=Error("Rate limit of the upstream", _SERVER)),
    "500": _passing("server error", status=500, body=Error("The server had an error", _SERVER)),
    "500_code": _passing("server error whose `code` is an integer", status=500, body=Error("The server had an error", _SERVER, 500)),
    "500_bare": _passing("server error with a message only, and the trace id only in it", status=500, body=Error("The server had an error", trace="request id", bare=True), trace=""),
    "500_trace": _passing("server error with the trace id only in X-Request-Id", status=500, body=Error("The server had an error", _SERVER, trace=""), trace="X-Request-Id"),
    "502": _passing("bad gateway", status=502, body=Error("Bad gateway", _SERVER)),
    "503": _passing("throttled, `server_is_overloaded`", status=503, body=Error("Rate limited by provider", code="server_is_overloaded")),
    "503_down": _passing("out of service", status=503, body=Error("Service temporarily unavailable", _SERVER)),
    "504": _passing("gateway timeout", status=504, body=Error("The upstream took too long", _SERVER)),
    **{str(status): _passing(f"{what}, in Cloudflare's form", status=status, body=Error(what.capitalize(), _SERVER)) for status, what in {
        520: "unknown error", 521: "web server is down", 522: "connection timed out", 523: "origin is unreachable",
        524: "a timeout occurred", 525: "TLS handshake failed", 526: "invalid TLS certificate",
    }.items()},
    "529": _passing("overloaded, in Anthropic's form", status=529, body=Error("Overloaded", "overloaded_error")),
    "200_error": _passing("an error under 200", body=Error("The upstream had an error", _SERVER)),
    "200_throttled": _passing("throttled under 200, `code` 429", body=Error("Rate limited by provider", code=429)),
    "400": _refused("a parameter the model refuses", status=400, body=Error("Invalid value for a parameter", _BAD, "invalid_value")),
    "400_max_tokens": _refused("`max_tokens` is refused, `max_completion_tokens` taken", status=400, refuses="max_tokens", body=Error("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", _BAD, "unsupported_parameter")),
    "400_context": _refused("the prompt is too long", status=400, body=Error("This model's maximum context length is 8192 tokens. Please reduce the length of the messages.", _BAD, "context_length_exceeded")),
    "400_content": _refused("the prompt is filtered", status=400, body=Error("The prompt was filtered by the content management policy", _BAD, "content_filter")),
    "400_model": _refused("wrong model id", status=400, body=_WRONG_MODEL),
    "400_channel": _refused("no provider offers the model", status=400, body=_NO_CHANNEL),
    "reject": _refused("a prompt that is refused", status=400, body=Error("Invalid value in the request", _BAD, "invalid_value")),
    "401": _refused("wrong key, which the message repeats", status=401, body=Error("Invalid API key: {key}", _BAD, "invalid_api_key")),
    "401_missing": _refused("no key", status=401, body=Error("You didn't provide an API key", _BAD)),
    "401_expired": _refused("a key that is used up or expired", status=401, body=Error("This API key is used up or has expired", _AUTH)),
    "401_model": _refused("the key may not use the model", status=401, body=Error("Model access denied: {model}", code="model_access_denied")),
    "403_model": _refused("the same under 403, only in the message", status=403, body=Error("You are not authorized to access the requested model")),
    "403_access": _refused("no such model, or none for this key", status=403, body=Error("The model `{model}` does not exist or you do not have access to it", _BAD, "model_not_found")),
    "402": _refused("no money", status=402, body=Error(_POOR, _MONEY)),
    "403": _refused("no money, `insufficient_user_quota`", status=403, body=Error(_POOR, code="insufficient_user_quota")),
    "403_balance": _refused("no money, only in the message", status=403, body=Error(_POOR, bare=True)),
    "429_quota": _refused("no money, `insufficient_quota`", status=429, body=Error("You exceeded your current quota, please check your plan and billing details", "insufficient_quota", "insufficient_quota")),
    "429_credit": _refused("no money, `credit_balance_exhausted`", status=429, body=Error("Your credit balance is exhausted", _MONEY, "credit_balance_exhausted")),
    "429_spend": _refused("a spend limit is reached", status=429, body=Error("You have reached your spend limit for this month", _MONEY)),
    "200_quota": _refused("no money, under 200", body=Error(_POOR, code="insufficient_user_quota")),
    "unfunded": _refused("no money: an assistant text under 200, which is no answer", shape=oddities.content(oddities.UNFUNDED, "stop")),
    "403_suspended": _refused("the account is suspended", status=403, body=Error("Your account has been suspended")),
    "403_ip": _refused("the address may not call", status=403, body=Error("Your IP is not allowed to access this API key")),
    "404_retired": _refused("a retired model, with its successor", status=404, body=Error("The model {model} has been retired, please use {successor} instead", code="model_retired")),
    "410": _refused("a retired model", status=410, body=Error("The model {model} is gone")),
    "413": _refused("too large a request", status=413, body=Error("Request entity too large", _BAD)),
    "422": _refused("a request that can't be processed", status=422, body=Error("Unprocessable entity", _BAD)),
    "500_row": _refused("input that llama.cpp can't process", status=500, body=Error("image input is not supported by this server", _SERVER, 500)),
    "501": _refused("an endpoint that isn't offered", status=501, body=Error("This endpoint is not implemented", code="not_implemented")),
    "503_model": _refused("wrong model id, under 503", status=503, body=_WRONG_MODEL),
    "503_channel": _refused("no provider offers the model, under 503", status=503, body=Error("No available channel for model {model}")),
    "blocked": _refused("no choices: the prompt was blocked, in Gemini's form", reshape=oddities.only(choices=[], promptFeedback={"blockReason": "SAFETY"}, usage={"prompt_tokens": 5})),
    "307": _refused("a redirect to another path", status=307, body=b"", headers=(("Location", "/elsewhere/v1/chat/completions"),)),
    "hang": _broken("no reply until the client disconnects", status=None, wire=Wire.HANG),
    "drop": _broken("the connection is closed before an answer", status=None, wire=Wire.DROP),
    "cut": _broken("the connection is closed in the middle of the answer", wire=Wire.CUT),
    "stall": _broken("half of the answer, then nothing until the client disconnects", wire=Wire.STALL),
    "html": _page("a web page under 200", group=Group.BROKEN),
    "404_html": _page("a web page under 404", group=Group.BROKEN, status=404),
    "empty": _page("an empty body under 200", group=Group.BROKEN, body=b""),
    "half": _broken("JSON that ends in the middle, with the Content-Length that fits", recode=oddities.cut_off),
    "no_choices": _broken("an answer without `choices`", reshape=oddities.without("choices")),
    "empty_choices": _broken("an answer with no choice in `choices`", reshape=oddities.with_field("choices", [])),
    "null_choice": _broken("a null for a choice", reshape=oddities.with_field("choices", [None])),
    "choice_error": _broken("a choice that ended with an error", reshape=oddities.ended_by_error),
    "detail": _broken("FastAPI's `detail` under 200", reshape=oddities.only(detail="Internal error", usage={})),
    "200_code": _broken("a `message` and its `code` under 200", reshape=oddities.only(message="Service Unavailable", code=503, usage={})),
    "failed": _broken("a response that failed", reshape=oddities.with_field("status", "failed"), endpoint=_RESPONSES),
    "queued": _broken("a response that is still queued", reshape=oddities.with_field("status", "queued"), endpoint=_RESPONSES),
    "no_output": _broken("a response with no output", reshape=oddities.with_field("output", []), endpoint=_RESPONSES),
    "few_vectors": _broken("one embedding too few", reshape=oddities.shorter("data"), endpoint=_EMBEDDINGS),
    "oversized": _broken("an answer of 80 MB", endless_bytes=80_000_000),
    "stream_ids": _stream("an id of its own in each chunk", answer=True, retell=streams.changing_ids),
    "stream_zeros": _stream("a usage of zeros in each chunk before the last", answer=True, retell=streams.zero_usage),
    "stream_comments": _stream("a keep-alive comment before each chunk", answer=True, retell=streams.comments),
    "stream_no_done": _stream("no `[DONE]`", answer=True, retell=streams.no_done),
    "stream_ignored": _stream("the whole answer as plain JSON", answer=True, streams=False),
    "stream_ends": _stream("closes properly, but halfway through the answer", retell=streams.ends),
    "stream_no_finish": _stream("`[DONE]` without a `finish_reason`", retell=streams.no_finish),
    "stream_error_first": _stream("an error as the first event", retell=streams.error_first),
    "stream_error": _stream("an error after some of the answer", retell=streams.error_later),
    "malformed": _door("an invalid body; the message says why", status=400, body=Error("{detail}", _BAD)),
    "unknown_marker": _door("a marker in the prompt names an unknown kind; the message lists all", status=400, body=Error("{detail}", _BAD, "unknown_marker")),
    "busy": _door("more requests at once than `concurrency`", status=429, body=Error("Too many requests", _RATE, "concurrency_exceeded"), retry=Retry.USUAL),
    "throttled": _door("more than `rpm` or `tpm`", status=429, body=_THROTTLED, retry=Retry.USUAL),
}  # fmt: skip


def by_group() -> dict[Group, dict[str, str]]:
    """Return each group's kinds, each with its line of documentation."""
    return {group: {name: kind.doc for name, kind in KINDS.items() if kind.group is group} for group in Group}
