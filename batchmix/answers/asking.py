"""How a model is asked for answers that fit a schema: each function takes a request body, and returns another one.

Bodies are those of `/chat/completions` and `/responses`. Other endpoints have no typed answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from batchmix.answers.strict import is_object_schema, strict_schema
from batchmix.formats.lenient_json import read_json

Body = dict[str, Any]
Way = Literal["response_format", "json_object", "prompt", "tool"]
"""How a schema is sent. `json_object` asks for JSON of any kind, so the schema stands in the prompt too."""
NAME = "answer"
"""The name under which the schema is sent, which is also that of the tool."""
_PROMPT = "Answer with JSON only, which fits this JSON Schema:"
_WRONG = "Your answer does not fit the JSON Schema: {}. Answer again with the corrected JSON only."
_UNFIT = "This does not fit the JSON Schema."
"""The result of a tool call that was wrong. Each call must have a result before the next message."""
_CHAT, _RESPONSES = "/chat/completions", "/responses"
_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_OWN = {
    "response_format": ("response_format",),
    "json_object": ("response_format",),
    "tool": ("tools", "tool_choice", "functions", "function_call"),
    "prompt": (),
}
"""The parameters with which a body already says by itself what the way would say."""
_TOOLS, _CHOICES = ("tools", "functions"), ("tool_choice", "function_call")
"""The parameters with tools, and those that may force the model to call one."""


class Asking:
    """Puts one schema into the bodies of requests. Make it once for each model: what it adds is built then.

    `way` is the way in which the schema is sent: `prompt` instead of the given one if its root is not an object.
    """

    def __init__(self, schema: Mapping[str, Any], way: Way) -> None:
        self.way: Way = way if is_object_schema(schema) else "prompt"
        sent, strict = strict_schema(schema)
        self._prompt = ""
        if self.way in {"prompt", "json_object"}:
            self._prompt = f"{_PROMPT}\n{msgspec.json.encode(schema).decode()}"
        described = {"name": NAME, "schema": sent, "strict": strict}
        called = {"name": NAME, "parameters": sent, "strict": strict}
        self._chat: Body = {}
        self._responses: Body = {}
        match self.way:
            case "response_format":
                self._chat = {"response_format": {"type": "json_schema", "json_schema": described}}
                self._responses = {"type": "json_schema", **described}
            case "json_object":
                self._chat = {"response_format": {"type": "json_object"}}
                self._responses = {"type": "json_object"}
            case "tool":
                named = {"type": "function", "function": {"name": NAME}}
                self._chat = {"tools": [{"type": "function", "function": called}], "tool_choice": named}
                self._responses = {
                    "tools": [{"type": "function", **called}],
                    "tool_choice": {"type": "function", "name": NAME},
                }

    def with_schema(self, body: Body, path: str) -> Body:
        """Return a body that asks for an answer which fits the schema. `path` must be one that `can_be_typed`.

        A body that has a response format or tools of its own keeps them and is returned as it is.
        """
        if any(body.get(name) is not None for name in _OWN[self.way]):
            return body
        if _endpoint(path) == _RESPONSES:
            return self._in_response(body)
        asked = {**body, **self._chat}
        if self._prompt and isinstance(messages := body.get("messages"), list):  # what else stands there is refused
            asked["messages"] = _with_instruction(messages, self._prompt)
        return asked

    def has_put(self, name: str, body: Body) -> bool:
        """Return whether a parameter of a request's body is there because of the schema."""
        value = body.get(name)
        if name == "text" and isinstance(value, dict):
            return value.get("format") == self._responses
        return value is not None and value in (self._chat.get(name), self._responses.get(name))

    def _in_response(self, body: Body) -> Body:
        text = body.get("text")
        asked = dict(body)
        if self.way == "tool":
            asked |= self._responses
        elif self._responses:
            settings = text if isinstance(text, dict) else {}
            if settings.get("format") is not None:
                return body
            asked["text"] = {**settings, "format": self._responses}
        if self._prompt:
            asked["instructions"] = _joined(body.get("instructions"), self._prompt)
        return asked


def tool_clash(params: Mapping[str, Any], way: str) -> tuple[str, str] | None:
    """Return the parameter for tools with which no answer could fit the schema, and the reason. None if one could.

    `params` are those of a job or the body of a request, `way` is how the schema is to be sent. A tool that is named as
    ours is taken for it: its arguments are the answer.
    """
    key = next((name for name in (*_TOOLS, *_CHOICES) if params.get(name)), None)
    tools = [tool for name in _TOOLS for tool in _list(params.get(name))]
    if key is None or any(_name(tool) == NAME for tool in tools):
        return None
    if way == "tool":
        return key, 'can\'t be together with answer.send = "tool"; choose another way to send it'
    if key in _TOOLS and any(_forces(params.get(name)) for name in _CHOICES):
        return key, (
            "a model that must call one of these gives no answer that fits [answer]; take out the tools, or what forces"
            " the model to call them"
        )
    return None


def can_be_typed(path: str) -> bool:
    """Return whether requests to a URL path can ask for an answer that fits a schema."""
    return _endpoint(path) is not None


def with_repair(body: Body, path: str, text: str | None, tool_calls: str | None, sentence: str) -> Body:
    """Return a body with one more turn: the answer that did not fit, and what was wrong with it.

    `text` and `tool_calls` are those of the answer, as in the result columns. `sentence` says what was wrong and where:
    `at /sentiment: …`.
    """
    key, called = ("messages", _chat_calls) if _endpoint(path) == _CHAT else ("input", _response_calls)
    turns = called(tool_calls, text) if tool_calls else None
    if turns is None:  # no call, or one that could not be sent as it is
        shown = text if text and text.strip() else tool_calls
        turns = [{"role": "assistant", "content": shown}] if shown else []
    before = body.get(key)
    if not isinstance(before, list):
        before = [{"role": "user", "content": before}] if before else []
    return {**body, key: [*before, *turns, {"role": "user", "content": _WRONG.format(sentence.rstrip(". "))}]}


def with_larger_cap(body: Body) -> Body | None:
    """Return a body that allows twice as many output tokens. None if it has no cap."""
    caps = {name: body[name] * 2 for name in _CAPS if type(body.get(name)) is int and body[name] > 0}
    return {**body, **caps} if caps else None


def answer_text(response: str | None, tool_calls: str | None) -> str | None:
    """Return the text of an answer that must fit the schema: the arguments of the call to the tool, or the response.

    None if there is none, or if the tool was called more than once.
    """
    if not tool_calls:
        return response
    calls = read_json(tool_calls.encode("utf-8", "surrogatepass"))
    given = [_arguments(call) for call in calls if _name(call) == NAME] if isinstance(calls, list) else []
    if not given:
        return response
    return given[0] if len(given) == 1 else None


def _endpoint(path: str) -> str | None:
    """Return the endpoint with typed answers that a URL path ends with, without regard to a query. None for others."""
    path = path.partition("?")[0].rstrip("/")
    return next((end for end in (_CHAT, _RESPONSES) if path.endswith(end)), None)


def _with_instruction(messages: list[Any], instruction: str) -> list[Any]:
    """Return messages of which the first system message ends with the instruction. If there is none, it is added."""
    together = list(messages)
    for at, message in enumerate(together):
        if isinstance(message, dict) and message.get("role") in {"system", "developer"}:
            together[at] = {**message, "content": _joined(message.get("content"), instruction)}
            return together
    return [{"role": "system", "content": instruction}, *together]


def _joined(content: Any, instruction: str) -> Any:
    """Return the content of a message with the instruction below it. It may be a text or a list of parts."""
    if isinstance(content, list):
        return [*content, {"type": "text", "text": instruction}]
    return f"{content}\n\n{instruction}" if isinstance(content, str) and content.strip() else instruction


def _chat_calls(tool_calls: str, text: str | None) -> list[Body] | None:
    """Return an assistant's message with its tool calls, and their results. None if they can't be sent."""
    calls = read_json(tool_calls.encode("utf-8", "surrogatepass"))
    if not _can_be_sent(calls, "id"):
        return None
    results = [{"role": "tool", "tool_call_id": call["id"], "content": _UNFIT} for call in calls]
    return [{"role": "assistant", "content": text, "tool_calls": calls}, *results]


def _response_calls(tool_calls: str, text: str | None) -> list[Body] | None:
    """Return items of the Responses API with tool calls and their results. None if they can't be sent."""
    calls = read_json(tool_calls.encode("utf-8", "surrogatepass"))
    if not _can_be_sent(calls, "call_id"):
        return None
    # Without their ids: the provider would ask for the reasoning that belongs to them, which no result column has.
    items = [
        {"type": "function_call", **{key: call[key] for key in ("call_id", "name", "arguments")}} for call in calls
    ]
    results = [{"type": "function_call_output", "call_id": call["call_id"], "output": _UNFIT} for call in calls]
    return [*([{"role": "assistant", "content": text}] if text else []), *items, *results]


def _can_be_sent(calls: Any, id_key: str) -> bool:
    """Return whether a provider would take these calls back: each has an id, a name and a JSON object.

    Arguments that were cut off are refused by servers that parse them, so such an answer is sent as plain text.
    """
    return isinstance(calls, list) and all(
        isinstance(call, dict)
        and isinstance(call.get(id_key), str)
        and isinstance(_name(call), str)
        and isinstance(_function(call).get("arguments"), str)
        and isinstance(read_json(_function(call)["arguments"].encode("utf-8", "surrogatepass")), dict)
        for call in calls
    )


def _forces(choice: Any) -> bool:
    """Return whether the value of `tool_choice` or `function_call` makes the model call a tool."""
    if not isinstance(choice, Mapping):
        return choice not in (None, "auto", "none")
    allowed = choice.get("allowed_tools")
    mode = allowed.get("mode") if isinstance(allowed, Mapping) else choice.get("mode", choice.get("type"))
    return mode not in ("auto", "none")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _function(call: Any) -> Mapping[str, Any]:
    """Return what a call says of its function: in a chat it has an object for it, elsewhere it is the call itself."""
    if not isinstance(call, dict):
        return {}
    function = call.get("function")
    return function if isinstance(function, dict) else call


def _name(call: Any) -> Any:
    return _function(call).get("name")


def _arguments(call: Any) -> str | None:
    """Return the arguments of a call as JSON text. Some providers give an object, in Claude's calls `input`."""
    given = _function(call).get("arguments", _function(call).get("input"))
    return given if given is None or isinstance(given, str) else msgspec.json.encode(given).decode()
