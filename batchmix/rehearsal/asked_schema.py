"""Finds the JSON Schema that a request asks its answer to fit: in its parameters, or in the text of its prompt."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from typing import Any

import msgspec

Schema = dict[str, Any] | bool
"""A JSON Schema. `True` allows any value, and `False` none."""
_INTRODUCTION = "JSON Schema"
"""The words that introduce a schema in a prompt."""
_SIGNS = ("type", "properties", "$ref", "$defs", "anyOf")
"""A JSON object with one of these keys counts as a schema."""
_decoder = json.JSONDecoder()


class SchemaWay(enum.StrEnum):
    """The ways in which a request can ask for an answer that fits a schema."""

    RESPONSE_FORMAT = "response_format"
    """`response_format` of type `json_schema`, or `text.format` in the Responses API."""
    JSON_OBJECT = "json_object"
    """The same of type `json_object`: any object, or one that fits the schema in the prompt."""
    TOOL = "tool"
    """`tool_choice` names a tool, or is `required`. The answer is a call of the tool."""
    PROMPT = "prompt"
    """The prompt has a schema after the words `JSON Schema`."""


class AskedSchema(msgspec.Struct, frozen=True):
    """A schema that the answer to a request must fit, and how the request asks for it."""

    schema: Schema
    way: SchemaWay
    tool: str = ""
    """The name of the tool to call. Empty if the answer is a text."""
    finish_reason: str = "stop"
    """The `finish_reason` of a whole answer: `stop`, even for a tool that `tool_choice` names."""


def asked_schema(body: dict[str, Any], content: object) -> AskedSchema | None:
    """Return the schema that a request asks for. None if it asks for none.

    `content` is the value of `messages`, `prompt` or `input`. Responses may have a prompt in their `instructions` too.
    """
    tool = _forced_tool(body)
    if tool is not None:
        return tool
    text = body.get("text")
    answer_format = body.get("response_format") or (text.get("format") if isinstance(text, dict) else None)
    answer_format = answer_format if isinstance(answer_format, dict) else {}
    kind = answer_format.get("type")
    if kind == "json_schema":
        inner = answer_format.get("json_schema", answer_format)
        schema = inner.get("schema") if isinstance(inner, dict) else None
        return AskedSchema(schema if isinstance(schema, dict) else True, SchemaWay.RESPONSE_FORMAT)
    in_prompt = prompt_schema(body.get("instructions"), content)
    if kind == "json_object":
        return AskedSchema({"type": "object"} if in_prompt is None else in_prompt.schema, SchemaWay.JSON_OBJECT)
    return in_prompt


def prompt_schema(*contents: object) -> AskedSchema | None:
    """Return the first schema in prompts or in messages. None if there is none."""
    texts = (text for content in contents for text in _texts(content))
    schema = next((schema for text in texts for schema in _schemas(text)), None)
    return None if schema is None else AskedSchema(schema, SchemaWay.PROMPT)


def _forced_tool(body: dict[str, Any]) -> AskedSchema | None:
    """Return the schema of the tool that the request must be answered with. None if there is no such tool."""
    choice, tools = body.get("tool_choice"), body.get("tools")
    listed = [_function(tool) for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    wanted = _function(choice).get("name") if isinstance(choice, dict) else None
    for function in listed:
        if choice == "required" or (wanted is not None and function.get("name") == wanted):
            parameters = function.get("parameters")
            return AskedSchema(
                schema=parameters if isinstance(parameters, dict) else {"type": "object"},
                way=SchemaWay.TOOL,
                tool=str(function.get("name")),
                finish_reason="tool_calls" if choice == "required" else "stop",
            )
    return None


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool's or a choice's function. In the Responses API, it stands beside `type`."""
    function = tool.get("function", tool)
    return function if isinstance(function, dict) else {}


def _texts(content: object) -> Iterator[str]:
    """Yield the texts of a prompt or of all messages but the assistant's."""
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict) and part.get("role") != "assistant":
            yield from _texts(part.get("content"))
            yield from _texts(part.get("text"))


def _schemas(text: str) -> Iterator[dict[str, Any]]:
    """Yield the schema after each introduction: the first JSON object that follows, if it looks like a schema."""
    at = text.find(_INTRODUCTION)
    while at >= 0:
        start = text.find("{", at)
        if start < 0:
            return
        try:
            value, _ = _decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and any(sign in value for sign in _SIGNS):
            yield value
        at = text.find(_INTRODUCTION, start)
