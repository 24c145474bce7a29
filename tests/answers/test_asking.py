"""A body asks for answers that fit the schema in one of four ways, and asks again with what was wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchmix.answers.asking import Asking, Way, answer_text, can_be_typed, tool_clash, with_larger_cap, with_repair

CHAT, RESPONSES = "/chat/completions", "/responses"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"mood": {"type": "string", "minLength": 1}},
    "required": ["mood"],
}
SENT = {
    "type": "object",
    "properties": {"mood": {"type": "string"}},
    "required": ["mood"],
    "additionalProperties": False,
}
PROMPT = "Answer with JSON only, which fits this JSON Schema:\n" + json.dumps(SCHEMA, separators=(",", ":"))
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
SYSTEM = {"role": "system", "content": PROMPT}
DESCRIBED = {"name": "answer", "schema": SENT, "strict": True}
CALLED = {"name": "answer", "parameters": SENT, "strict": True}


def wrong(sentence: str) -> dict[str, Any]:
    text = f"Your answer does not fit the JSON Schema: {sentence}. Answer again with the corrected JSON only."
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("way", "added"),
    [
        ("response_format", {"response_format": {"type": "json_schema", "json_schema": DESCRIBED}}),
        (
            "json_object",
            {"response_format": {"type": "json_object"}, "messages": [SYSTEM, *ASKED["messages"]]},
        ),
        ("prompt", {"messages": [SYSTEM, *ASKED["messages"]]}),
        (
            "tool",
            {
                "tools": [{"type": "function", "function": CALLED}],
                "tool_choice": {"type": "function", "function": {"name": "answer"}},
            },
        ),
    ],
)
def test_a_chat_asks_in_each_way(way: Way, added: dict[str, Any]) -> None:
    before = json.dumps(ASKED)
    assert Asking(SCHEMA, way).with_schema(ASKED, CHAT) == ASKED | added
    assert json.dumps(ASKED) == before


@pytest.mark.parametrize(
    ("way", "added"),
    [
        ("response_format", {"text": {"verbosity": "low", "format": {"type": "json_schema", **DESCRIBED}}}),
        (
            "json_object",
            {"text": {"verbosity": "low", "format": {"type": "json_object"}}, "instructions": f"Be brief\n\n{PROMPT}"},
        ),
        ("prompt", {"instructions": f"Be brief\n\n{PROMPT}"}),
        (
            "tool",
            {"tools": [{"type": "function", **CALLED}], "tool_choice": {"type": "function", "name": "answer"}},
        ),
    ],
)
def test_a_response_asks_in_each_way(way: Way, added: dict[str, Any]) -> None:
    body = {"model": "m", "input": "Hi", "instructions": "Be brief", "text": {"verbosity": "low"}}
    before = json.dumps(body)
    assert Asking(SCHEMA, way).with_schema(body, RESPONSES) == body | added
    assert json.dumps(body) == before


@pytest.mark.parametrize(
    ("content", "together"),
    [
        ("Be brief", f"Be brief\n\n{PROMPT}"),
        ("", PROMPT),
        (None, PROMPT),
        (
            [{"type": "text", "text": "Be brief"}],
            [{"type": "text", "text": "Be brief"}, {"type": "text", "text": PROMPT}],
        ),
    ],
)
def test_the_prompt_joins_the_first_system_message(content: Any, together: Any) -> None:
    messages = [{"role": "user", "content": "Hi"}, *({"role": "developer", "content": content} for _ in range(2))]
    asked = Asking(SCHEMA, "prompt").with_schema({"messages": messages}, CHAT)
    assert asked["messages"] == [messages[0], {"role": "developer", "content": together}, messages[2]]


@pytest.mark.parametrize(
    ("way", "own", "path"),
    [
        ("response_format", {"response_format": {"type": "text"}}, CHAT),
        ("json_object", {"response_format": {"type": "json_object"}}, CHAT),
        ("tool", {"tools": []}, CHAT),
        ("tool", {"functions": [{"name": "f"}]}, CHAT),
        ("tool", {"tools": [{"type": "web_search"}]}, RESPONSES),
        ("response_format", {"text": {"format": {"type": "text"}}}, RESPONSES),
        ("json_object", {"text": {"format": {"type": "json_object"}}}, RESPONSES),
    ],
)
def test_a_body_keeps_what_it_says_itself(way: Way, own: dict[str, Any], path: str) -> None:
    body = ASKED | {"input": "Hi"} | own
    assert Asking(SCHEMA, way).with_schema(body, path) == body


WEATHER = {"type": "function", "function": {"name": "weather"}}
OURS = {"type": "function", "function": {"name": "answer"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [WEATHER]}}


@pytest.mark.parametrize(
    ("params", "unfit", "beside_tool"),
    [
        ({"tools": []}, None, None),
        ({"tools": [WEATHER]}, None, "tools"),
        ({"tools": [WEATHER], "tool_choice": "none"}, None, "tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "auto"}}, None, "tools"),
        ({"tools": [WEATHER], "tool_choice": "required"}, "tools", "tools"),
        ({"tools": [WEATHER], "tool_choice": WEATHER}, "tools", "tools"),
        ({"tools": [WEATHER], "tool_choice": ALLOWED}, "tools", "tools"),
        (
            {"tools": [{"type": "function", "name": "weather"}], "tool_choice": ALLOWED | {"mode": "auto"}},
            "tools",
            "tools",
        ),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "mode": "auto"}}, None, "tools"),
        ({"functions": [{"name": "weather"}], "function_call": {"name": "weather"}}, "functions", "functions"),
        ({"tool_choice": "auto"}, None, "tool_choice"),
        ({"function_call": "none"}, None, "function_call"),
        ({"tools": [WEATHER, OURS], "tool_choice": "required"}, None, None),
        ({"tools": [{"type": "function", "name": "answer"}], "tool_choice": OURS}, None, None),
        ({"functions": [{"name": "answer"}], "function_call": {"name": "answer"}}, None, None),
        ({"tools": "none", "functions": {"name": "x"}}, None, "tools"),
    ],
)
def test_tools_with_which_no_answer_could_fit_are_named(
    params: dict[str, Any], unfit: str | None, beside_tool: str | None
) -> None:
    for way in ("auto", "response_format", "json_object", "prompt"):
        assert (tool_clash(params, way) or (None,))[0] == unfit
    assert (tool_clash(params, "tool") or (None,))[0] == beside_tool


def test_a_null_says_nothing() -> None:
    asked = Asking(SCHEMA, "response_format").with_schema(ASKED | {"response_format": None}, CHAT)
    assert asked["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize("way", ["response_format", "json_object", "tool", "prompt"])
def test_only_a_prompt_can_ask_for_a_list(way: Way) -> None:
    asking = Asking({"type": "array", "items": {"type": "string"}}, way)
    assert asking.way == "prompt"
    assert asking.with_schema(ASKED, CHAT).keys() == ASKED.keys()


@pytest.mark.parametrize("path", [CHAT, RESPONSES, "/v1/responses/", "/chat/completions?api-version=1"])
def test_chats_and_responses_can_be_typed(path: str) -> None:
    assert can_be_typed(path)


@pytest.mark.parametrize("path", ["/completions", "/embeddings", "/responses/compact", ""])
def test_others_can_not(path: str) -> None:
    assert not can_be_typed(path)


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_without_an_answer_only_the_problem_is_told(text: str | None) -> None:
    asked = with_repair(ASKED, CHAT, text, None, "at /mood: is missing")
    assert asked == ASKED | {"messages": [*ASKED["messages"], wrong("at /mood: is missing")]}


def test_an_answer_is_told_as_it_came() -> None:
    answer = {"role": "assistant", "content": "```json\n{}"}
    asked = with_repair(ASKED, CHAT, "```json\n{}", None, "at /: a key is missing.")
    assert asked == ASKED | {"messages": [*ASKED["messages"], answer, wrong("at /: a key is missing")]}


@pytest.mark.parametrize("given", ["Hi", [{"role": "user", "content": "Hi"}]])
def test_a_response_is_told_as_items(given: Any) -> None:
    asked = with_repair({"input": given}, RESPONSES, "{}", None, "is empty")
    first, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "{}"}
    assert asked == {"input": [first, answer, wrong("is empty")]}


def test_each_call_gets_a_result_before_the_problem_is_told() -> None:
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "answer", "arguments": "{}"}} for n in range(2)]
    asked = with_repair(ASKED, CHAT, None, json.dumps(calls), "called twice")
    unfit = "This does not fit the JSON Schema."
    assert asked["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c0", "content": unfit},
        {"role": "tool", "tool_call_id": "c1", "content": unfit},
        wrong("called twice"),
    ]


def test_a_call_of_a_response_leaves_its_id_behind() -> None:
    call = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "c",
        "name": "answer",
        "arguments": "{}",
        "status": "completed",
    }
    asked = with_repair({"input": "Hi"}, RESPONSES, None, json.dumps([call]), "is empty")
    assert asked["input"][1:] == [
        {"type": "function_call", "call_id": "c", "name": "answer", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "This does not fit the JSON Schema."},
        wrong("is empty"),
    ]


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize(
    "calls",
    [
        '[{"id": "c", "call_id": "c", "function": {"name": "answer", "arguments": "{\\"mood"}}]',
        '[{"function": {"name": "answer", "arguments": "{}"}}]',
        '[{"type": "tool_use", "id": "c", "name": "answer", "input": {}}]',
        "[1]",
        "{",
    ],
)
def test_calls_that_can_not_be_sent_are_told_as_text(path: str, calls: str) -> None:
    asked = with_repair({}, path, None, calls, "is wrong")
    assert list(asked.values()) == [[{"role": "assistant", "content": calls}, wrong("is wrong")]]


@pytest.mark.parametrize(
    ("body", "larger"),
    [
        ({"max_tokens": 10}, {"max_tokens": 20}),
        ({"max_completion_tokens": 5, "n": 1}, {"max_completion_tokens": 10, "n": 1}),
        ({"max_output_tokens": 7}, {"max_output_tokens": 14}),
        ({"max_tokens": 1, "max_completion_tokens": 2}, {"max_tokens": 2, "max_completion_tokens": 4}),
        ({"max_tokens": None}, None),
        ({"max_tokens": "10"}, None),
        ({"max_tokens": True}, None),
        ({}, None),
    ],
)
def test_a_larger_cap_is_twice_the_cap(body: dict[str, Any], larger: dict[str, Any] | None) -> None:
    assert with_larger_cap(body) == larger


def test_the_answer_is_the_response_or_the_arguments_of_the_only_call() -> None:
    chat = {"id": "c", "type": "function", "function": {"name": "answer", "arguments": '{"a": 1}'}}
    response = {"type": "function_call", "call_id": "c", "name": "answer", "arguments": '{"a": 1}'}
    other = {"id": "d", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    of_claude = {"type": "tool_use", "name": "answer", "input": {"a": 1}}
    assert answer_text("text", None) == "text"
    assert answer_text(None, None) is None
    assert answer_text("text", json.dumps([other])) == "text"
    assert answer_text("text", json.dumps([other, chat])) == '{"a": 1}'
    assert answer_text(None, json.dumps([response])) == '{"a": 1}'
    assert answer_text(None, json.dumps([of_claude])) == '{"a":1}'
    assert answer_text("text", json.dumps([chat, chat])) is None
    assert answer_text("text", "[") == "text"
