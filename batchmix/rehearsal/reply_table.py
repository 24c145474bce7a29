"""The table of all kinds of replies. To add a kind, add an entry to `REPLY_KINDS`.

Statuses, codes and messages are copied from AiHubMix and from the gateways and providers behind it.
"""

from __future__ import annotations

from functools import partial

from batchmix.rehearsal import misfits, oddities, streams
from batchmix.rehearsal.reply_kind import Delivery, ErrorBody, ReplyGroup, ReplyKind, RetryHint

WEB_PAGE = b"<!doctype html><html><head><title>A gateway</title></head><body>Welcome</body></html>"
_BAD, _RATE, _SERVER, _MONEY, _AUTH = (
    "invalid_request_error",
    "rate_limit_error",
    "server_error",
    "billing_error",
    "authentication_error",
)
_RESPONSES, _EMBEDDINGS = "/v1/responses", "/v1/embeddings"
_answer = partial(ReplyKind, group=ReplyGroup.ANSWERS, answer=True)
_misfit = partial(ReplyKind, group=ReplyGroup.MISFITS, answer=True)
_temporary = partial(ReplyKind, group=ReplyGroup.TEMPORARY)
_refused = partial(ReplyKind, group=ReplyGroup.REFUSALS)
_broken = partial(ReplyKind, group=ReplyGroup.BROKEN)
_stream = partial(ReplyKind, group=ReplyGroup.STREAMS)
_automatic = partial(ReplyKind, group=ReplyGroup.AUTOMATIC, delayed=False)
_page = partial(ReplyKind, body=WEB_PAGE, content_type="text/html", trace="")
_BUSY_PAGE = b"<html><head><title>503 Service Temporarily Unavailable</title></head><body></body></html>"
_THROTTLED = ErrorBody("Too many requests", _RATE, "rate_limit_exceeded")
_WRONG_MODEL = ErrorBody("Incorrect model ID. Please request to view the available models: {model}")
_NO_CHANNEL = ErrorBody("No available channel for model {model}", code="no_available_channel")
_POOR = "Your balance is insufficient"

REPLY_KINDS: dict[str, ReplyKind] = {
    "answer": _answer("the plain answer"),
    "echo": _answer("the prompt's own text", echoes=True),
    "filter": _answer("`finish_reason` is `content_filter`", make_message=oddities.filtered),
    "null": _answer("`content` is null", make_message=oddities.content(None)),
    "no_content": _answer("`content` is missing", make_message=oddities.no_content),
    "blank": _answer("`content` is an empty text", make_message=oddities.content("")),
    "refusal": _answer("a `refusal` instead of the content", make_message=oddities.refusal),
    "tools": _answer("`tool_calls` instead of the content", make_message=oddities.tools),
    "reasoning": _answer("`reasoning_content` beside the content", make_message=oddities.reasoning),
    "reasoning_details": _answer("`reasoning_details` beside the content", make_message=oddities.reasoning_details),
    "only_reasoning": _answer("empty content, `reasoning_content`, and `finish_reason` is `length`", make_message=oddities.only_reasoning),
    "parts": _answer("the content as a list of parts", make_message=oddities.parts),
    "nul": _answer("a NUL character in the content", make_message=oddities.around("a\0b ")),
    "surrogate": _answer("an escaped lone surrogate in the content", make_message=oddities.around("\ud800 "), encode_body=oddities.escaped),
    "control_codes": _answer("terminal control codes in the content", make_message=oddities.around("\x1b[31m\x1b]0;title\x07\x9b2J ", "\x1b[0m\r\b")),
    "markup": _answer("HTML with a script in the content", make_message=oddities.around("</script><script>alert(1)</script><img src=x onerror=alert(1)> ")),
    "large": _answer("5 MB of content", make_message=oddities.large),
    "one_choice": _answer("one choice, whatever `n` is", edit_body=oddities.one_choice),
    "no_usage": _answer("`usage` is missing", edit_body=oddities.without("usage")),
    "null_usage": _answer("`usage` is null", edit_body=oddities.with_field("usage", None)),
    "zero_usage": _answer("`usage` is all zeros", edit_body=oddities.zero_usage),
    "claude_usage": _answer("`usage` with `claude_cache_tokens_details` for all details", edit_body=oddities.claude_usage),
    "deepseek_usage": _answer("`usage` without details, the cache counted DeepSeek's way", edit_body=oddities.deepseek_usage),
    "float_usage": _answer("token counts such as `150.0`", encode_body=oddities.float_usage),
    "huge": _answer("an integer beyond 64 bits", encode_body=oddities.huge),
    "nan": _answer("a `NaN` among the fields", encode_body=oddities.nan),
    "pretty": _answer("indented JSON between empty lines", encode_body=oddities.pretty),
    "bom": _answer("a byte order mark before the JSON", encode_body=oddities.with_bom),
    "text_plain": _answer("JSON that is sent as text/plain", content_type="text/plain; charset=utf-8"),
    "dated_model": _answer("the body's `model` is another name", edit_body=oddities.dated_model),
    "fallback": _answer("headers that name another model as the one that answered", headers=(("X-Aihubmix-Fallback", "true"), ("X-Aihubmix-Router-Resolved-Model", "fallback-model"))),
    "object": _answer("an object as the content", make_message=oddities.content({"city": "Zürich"})),
    "turned": _answer("the choices in the reverse order", edit_body=oddities.reverse("choices")),
    "empty_error": _answer("an `error` of empty fields beside the choices", edit_body=oddities.with_field("error", {"message": "", "type": None, "code": None})),
    "unasked": _answer("an event stream that was not requested", encode_body=oddities.streamed, content_type="text/event-stream"),
    "incomplete": _answer("a response that is incomplete", edit_body=oddities.incomplete, endpoint=_RESPONSES),
    "turned_vectors": _answer("the embeddings in the reverse order", edit_body=oddities.reverse("data"), endpoint=_EMBEDDINGS),
    "drip": _answer("the bytes come slowly, within `slow_s`", delivery=Delivery.DRIP),
    "fenced": _misfit("the JSON in a code fence", misfit=misfits.fenced),
    "chatty": _misfit("the JSON with words around it", misfit=misfits.chatty),
    "thinking": _misfit("the JSON after `<think>…</think>`, which has a wrong draft in it", misfit=misfits.thinking),
    "trailing_comma": _misfit("the JSON with one comma too many", misfit=misfits.trailing_comma),
    "cut_off_answer": _misfit("half of the JSON, and `finish_reason` is `length`; all of it if `max_tokens` is at least `needs_tokens`", misfit=misfits.cut_off_answer),
    "repetition": _misfit("half of the JSON, then the same word up to `max_tokens`, and `finish_reason` is `length`", misfit=misfits.repetition),
    "wrong_enum": _misfit("a value that is not among the listed ones", misfit=misfits.wrong_enum),
    "extra_key": _misfit("a property that is not allowed", misfit=misfits.extra_key),
    "missing_key": _misfit("a required property is missing", misfit=misfits.missing_key),
    "wrong_type": _misfit("a value of another type; the three kinds above turn to this one where the schema has nothing of theirs", misfit=misfits.wrong_type),
    "408": _temporary("request timeout", status=408, body=ErrorBody("Request timeout", "timeout")),
    "409": _temporary("conflict", status=409, body=ErrorBody("The request conflicts with another", "conflict")),
    "418": _temporary("an unknown error code", status=418, body=ErrorBody("The flux is out of phase", code="flux_phase")),
    "429": _temporary("throttled, with Retry-After and retry-after-ms", status=429, body=_THROTTLED, retry=RetryHint.USUAL),
    "429_seconds": _temporary("throttled, with Retry-After in seconds", status=429, body=_THROTTLED, retry=RetryHint.SECONDS),
    "429_date": _temporary("throttled, with Retry-After as a date", status=429, body=_THROTTLED, retry=RetryHint.DATE),
    "429_ms": _temporary("throttled, with retry-after-ms", status=429, body=_THROTTLED, retry=RetryHint.MS),
    "429_litellm": _temporary("throttled, with llm_provider-retry-after", status=429, body=_THROTTLED, retry=RetryHint.LITELLM),
    "429_bare": _temporary("throttled, with no header about it", status=429, body=_THROTTLED),
    "429_provider": _temporary("throttled by the provider behind", status=429, body=ErrorBody("Rate limited by provider, please try again later")),
    "429_slow_down": _temporary("throttled, `slow_down`", status=429, body=ErrorBody("Slow down", _RATE, "slow_down")),
    "429_words": _temporary("throttled, with the wait only in the message", status=429, body=ErrorBody("Rate limit reached. Please try again in 1.2s", _RATE, "rate_limit_exceeded")),
    "400_throttled": _temporary("throttled, in Bedrock's form", status=400, body=ErrorBody("ThrottlingException: Too many tokens, please wait before trying again.")),
    "500_throttled": _temporary("throttled, under the wrong status", status=500, body=ErrorBody("Rate limit of the upstream", _SERVER)),
    "500": _temporary("server error", status=500, body=ErrorBody("The server had an error", _SERVER)),
    "500_code": _temporary("server error whose `code` is an integer", status=500, body=ErrorBody("The server had an error", _SERVER, 500)),
    "500_bare": _temporary("server error with a message only, and the trace id only in it", status=500, body=ErrorBody("The server had an error", trace="request id", bare=True), trace=""),
    "500_trace": _temporary("server error with the trace id only in X-Request-Id", status=500, body=ErrorBody("The server had an error", _SERVER, trace=""), trace="X-Request-Id"),
    "502": _temporary("bad gateway", status=502, body=ErrorBody("Bad gateway", _SERVER)),
    "503": _temporary("throttled, `server_is_overloaded`", status=503, body=ErrorBody("Rate limited by provider", code="server_is_overloaded")),
    "503_down": _temporary("out of service", status=503, body=ErrorBody("Service temporarily unavailable", _SERVER)),
    "503_page": _temporary("out of service, as nginx and HAProxy say it: a web page without a reason", status=503, body=_BUSY_PAGE, content_type="text/html", trace=""),
    "504": _temporary("gateway timeout", status=504, body=ErrorBody("The upstream took too long", _SERVER)),
    **{str(status): _temporary(f"{what}, in Cloudflare's form", status=status, body=ErrorBody(what.capitalize(), _SERVER)) for status, what in {
        520: "unknown error", 521: "web server is down", 522: "connection timed out", 523: "origin is unreachable",
        524: "a timeout occurred", 525: "TLS handshake failed", 526: "invalid TLS certificate",
    }.items()},
    "529": _temporary("overloaded, in Anthropic's form", status=529, body=ErrorBody("Overloaded", "overloaded_error")),
    "200_error": _temporary("an error under 200", body=ErrorBody("The upstream had an error", _SERVER)),
    "200_throttled": _temporary("throttled under 200, `code` 429", body=ErrorBody("Rate limited by provider", code=429)),
    "400": _refused("a parameter the model refuses", status=400, body=ErrorBody("Invalid value for a parameter", _BAD, "invalid_value")),
    "400_max_tokens": _refused("`max_tokens` is refused, `max_completion_tokens` taken", status=400, refuses="max_tokens", body=ErrorBody("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", _BAD, "unsupported_parameter")),
    "400_schema": _refused("`response_format` of type `json_schema` is refused", status=400, body=ErrorBody("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.", _BAD, param="response_format"), refuses="response_format"),
    "400_context": _refused("the prompt is too long", status=400, body=ErrorBody("This model's maximum context length is 8192 tokens. Please reduce the length of the messages.", _BAD, "context_length_exceeded")),
    "400_content": _refused("the prompt is filtered", status=400, body=ErrorBody("The prompt was filtered by the content management policy", _BAD, "content_filter")),
    "400_model": _refused("wrong model id", status=400, body=_WRONG_MODEL),
    "400_channel": _refused("no provider offers the model", status=400, body=_NO_CHANNEL),
    "reject": _refused("a prompt that is refused", status=400, body=ErrorBody("Invalid value in the request", _BAD, "invalid_value")),
    "401": _refused("wrong key, which the message repeats", status=401, body=ErrorBody("Invalid API key: {key}", _BAD, "invalid_api_key")),
    "401_missing": _refused("no key", status=401, body=ErrorBody("You didn't provide an API key", _BAD)),
    "401_expired": _refused("a key that is used up or expired", status=401, body=ErrorBody("This API key is used up or has expired", _AUTH)),
    "401_model": _refused("the key may not use the model", status=401, body=ErrorBody("Model access denied: {model}", code="model_access_denied")),
    "403_model": _refused("the same under 403, only in the message", status=403, body=ErrorBody("You are not authorized to access the requested model")),
    "403_access": _refused("no such model, or none for this key", status=403, body=ErrorBody("The model `{model}` does not exist or you do not have access to it", _BAD, "model_not_found")),
    "402": _refused("no money", status=402, body=ErrorBody(_POOR, _MONEY)),
    "403": _refused("no money, `insufficient_user_quota`", status=403, body=ErrorBody(_POOR, code="insufficient_user_quota")),
    "403_balance": _refused("no money, only in the message", status=403, body=ErrorBody(_POOR, bare=True)),
    "429_quota": _refused("no money, `insufficient_quota`", status=429, body=ErrorBody("You exceeded your current quota, please check your plan and billing details", "insufficient_quota", "insufficient_quota")),
    "429_credit": _refused("no money, `credit_balance_exhausted`", status=429, body=ErrorBody("Your credit balance is exhausted", _MONEY, "credit_balance_exhausted")),
    "429_spend": _refused("a spend limit is reached", status=429, body=ErrorBody("You have reached your spend limit for this month", _MONEY)),
    "200_quota": _refused("no money, under 200", body=ErrorBody(_POOR, code="insufficient_user_quota")),
    "unfunded": _refused("no money: an assistant text under 200, which is no answer", make_message=oddities.content(oddities.UNFUNDED, "stop")),
    "403_suspended": _refused("the account is suspended", status=403, body=ErrorBody("Your account has been suspended")),
    "403_ip": _refused("the address may not call", status=403, body=ErrorBody("Your IP is not allowed to access this API key")),
    "404_retired": _refused("a retired model, with its successor", status=404, body=ErrorBody("The model {model} has been retired, please use {successor} instead", code="model_retired")),
    "410": _refused("a retired model", status=410, body=ErrorBody("The model {model} is gone")),
    "413": _refused("too large a request", status=413, body=ErrorBody("Request entity too large", _BAD)),
    "422": _refused("a request that can't be processed", status=422, body=ErrorBody("Unprocessable entity", _BAD)),
    "500_row": _refused("input that llama.cpp can't process", status=500, body=ErrorBody("image input is not supported by this server", _SERVER, 500)),
    "501": _refused("an endpoint that isn't offered", status=501, body=ErrorBody("This endpoint is not implemented", code="not_implemented")),
    "503_model": _refused("wrong model id, under 503", status=503, body=_WRONG_MODEL),
    "503_channel": _refused("no provider offers the model, under 503", status=503, body=ErrorBody("No available channel for model {model}")),
    "blocked": _refused("no choices: the prompt was blocked, in Gemini's form", edit_body=oddities.only(choices=[], promptFeedback={"blockReason": "SAFETY"}, usage={"prompt_tokens": 5})),
    "307": _refused("a redirect to another path", status=307, body=b"", headers=(("Location", "/elsewhere/v1/chat/completions"),)),
    "hang": _broken("no reply until the client disconnects", status=None, delivery=Delivery.HANG),
    "drop": _broken("the connection is closed before an answer", status=None, delivery=Delivery.DROP),
    "cut": _broken("the connection is closed in the middle of the answer", delivery=Delivery.CUT),
    "stall": _broken("half of the answer, then nothing until the client disconnects", delivery=Delivery.STALL),
    "html": _page("a web page under 200", group=ReplyGroup.BROKEN),
    "404_html": _page("a web page under 404", group=ReplyGroup.BROKEN, status=404),
    "empty": _page("an empty body under 200", group=ReplyGroup.BROKEN, body=b""),
    "half": _broken("JSON that ends in the middle, with the Content-Length that fits", encode_body=oddities.cut_off),
    "no_choices": _broken("an answer without `choices`", edit_body=oddities.without("choices")),
    "empty_choices": _broken("an answer with no choice in `choices`", edit_body=oddities.with_field("choices", [])),
    "null_choice": _broken("a null for a choice", edit_body=oddities.with_field("choices", [None])),
    "choice_error": _broken("a choice that ended with an error", edit_body=oddities.ended_by_error),
    "detail": _broken("FastAPI's `detail` under 200", edit_body=oddities.only(detail="Internal error", usage={})),
    "200_code": _broken("a `message` and its `code` under 200", edit_body=oddities.only(message="Service Unavailable", code=503, usage={})),
    "failed": _broken("a response that failed", edit_body=oddities.with_field("status", "failed"), endpoint=_RESPONSES),
    "queued": _broken("a response that is still queued", edit_body=oddities.with_field("status", "queued"), endpoint=_RESPONSES),
    "no_output": _broken("a response with no output", edit_body=oddities.with_field("output", []), endpoint=_RESPONSES),
    "few_vectors": _broken("one embedding too few", edit_body=oddities.one_vector_missing, endpoint=_EMBEDDINGS),
    "oversized": _broken("an answer of 80 MB", endless_bytes=80_000_000),
    "stream_ids": _stream("an id of its own in each chunk", answer=True, edit_events=streams.changing_ids),
    "stream_zeros": _stream("a usage of zeros in each chunk before the last", answer=True, edit_events=streams.add_zero_usage),
    "stream_comments": _stream("a keep-alive comment before each chunk", answer=True, edit_events=streams.comments),
    "stream_no_done": _stream("no `[DONE]`", answer=True, edit_events=streams.no_done),
    "stream_ignored": _stream("the whole answer as plain JSON", answer=True, streams=False),
    "stream_ends": _stream("closes properly, but halfway through the answer", edit_events=streams.cut_short),
    "stream_no_finish": _stream("`[DONE]` without a `finish_reason`", edit_events=streams.no_finish),
    "stream_error_first": _stream("an error as the first event", edit_events=streams.error_first),
    "stream_error": _stream("an error after some of the answer", edit_events=streams.error_later),
    "malformed": _automatic("an invalid body; the message says why", status=400, body=ErrorBody("{detail}", _BAD)),
    "unknown_marker": _automatic("a marker in the prompt names an unknown kind; the message lists all", status=400, body=ErrorBody("{detail}", _BAD, "unknown_marker")),
    "busy": _automatic("more requests at once than `concurrency` and `queue` allow", status=429, body=ErrorBody("Too many requests", _RATE, "concurrency_exceeded"), retry=RetryHint.USUAL),
    "throttled": _automatic("more than `rpm`, `tpm` or `limit` allows", status=429, body=_THROTTLED, retry=RetryHint.USUAL),
}  # fmt: skip


def by_group() -> dict[ReplyGroup, dict[str, str]]:
    """Return for each group the names of its kinds, each with its line of documentation."""
    return {
        group: {name: kind.doc for name, kind in REPLY_KINDS.items() if kind.group is group} for group in ReplyGroup
    }
