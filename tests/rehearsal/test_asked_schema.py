"""A request that asks for a schema gets an answer that fits it, whichever way it asks."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest

from tests.rehearsal.test_streams import USAGE, answered, events, reasons

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "stars": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["mood", "stars"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "review", "strict": True, "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "save", "parameters": SCHEMA}}
OTHER = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
CHOICE = {"type": "function", "function": {"name": "save"}}
PROMPT = f"Review it. Answer with JSON only, which fits this JSON Schema:\n{json.dumps(SCHEMA, indent=2)}\nThanks {{}}"
fits = jsonschema_rs.validator_for(SCHEMA).is_valid


def messages(*texts):
    return [{"role": role, "content": text} for role, text in texts]


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": FORMAT},
        {"response_format": {"type": "json_object"}, "messages": messages(("system", PROMPT), ("user", "Hello"))},
        {"messages": messages(("system", PROMPT), ("user", "Hello"))},
        {"messages": messages(("user", PROMPT), ("assistant", "no"), ("user", "That does not fit."))},
        {"messages": messages(("user", [{"type": "text", "text": PROMPT}]))},
        {"messages": messages(("user", f'The words JSON Schema {{"a": 1}}, and {{}}\n{PROMPT}'))},
        {"path": "/completions", "messages": None, "prompt": PROMPT},
    ],
    ids=["response_format", "json_object", "system", "repair", "parts", "later", "completions"],
)
async def test_the_text_fits(calling, body):
    async with calling() as caller:
        whole = await caller.send("Hello", **{"n": 3, **body})
        again = await caller.send("Hello", **{"n": 3, **body})
    assert whole.raw == again.raw
    texts = [
        choice["message"]["content"] if "message" in choice else choice["text"] for choice in whole.body["choices"]
    ]
    assert all(fits(json.loads(text)) for text in texts)
    assert whole.body["usage"]["completion_tokens"] == sum(len(text.split()) for text in texts)
    assert {choice["finish_reason"] for choice in whole.body["choices"]} == {"stop"}


@pytest.mark.parametrize(("choice", "reason"), [(CHOICE, "stop"), ("required", "tool_calls")])
async def test_a_tools_arguments_fit(calling, choice, reason):
    tools = [OTHER, TOOL] if choice == CHOICE else [TOOL, OTHER]
    async with calling() as caller:
        body = (await caller.send(tools=tools, tool_choice=choice)).body
        free = await caller.send(tools=tools, tool_choice="auto")
    (found,) = body["choices"]
    (call,) = found["message"]["tool_calls"]
    assert (found["message"]["content"], found["finish_reason"]) == (None, reason)
    assert (call["type"], call["function"]["name"]) == ("function", "save")
    assert fits(json.loads(call["function"]["arguments"]))
    assert body["usage"]["completion_tokens"] == len(call["function"]["arguments"].split())
    assert isinstance(free.content, str)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"text": {"format": {"type": "json_schema", "name": "review", "schema": SCHEMA}}}, "message"),
        ({"tools": [TOOL["function"]], "tool_choice": {"type": "function", "name": "save"}}, "function_call"),
        ({"input": PROMPT, "text": {"format": {"type": "json_object"}}}, "message"),
        ({"input": messages(("user", [{"type": "input_text", "text": PROMPT}]))}, "message"),
        ({"instructions": PROMPT, "input": messages(("user", "Hello"))}, "message"),
    ],
)
async def test_the_responses_api_too(calling, body, kind):
    async with calling() as caller:
        (item,) = (await caller.send(path="/responses", messages=None, **{"input": "Hello", **body})).body["output"]
    assert item["type"] == kind
    assert fits(json.loads(item["arguments"] if kind == "function_call" else item["content"][0]["text"]))


async def test_an_object_of_any_kind(calling):
    async with calling() as caller:
        content = (await caller.send(response_format={"type": "json_object"})).content
    assert isinstance(json.loads(content), dict)


async def test_streams_have_the_same(calling):
    async with calling() as caller:
        text = await caller.send(response_format=FORMAT)
        found = events((await caller.send(response_format=FORMAT, **USAGE)).raw)
        tool = (await caller.send(tools=[TOOL], tool_choice=CHOICE)).body["choices"][0]["message"]["tool_calls"]
        calls = events((await caller.send(tools=[TOOL], tool_choice=CHOICE, stream=True)).raw)
    assert answered(found) == text.content
    assert found[-2]["usage"] == text.body["usage"]
    deltas = [delta for e in calls[:-1] for c in e["choices"] for delta in c["delta"].get("tool_calls", ())]
    assert deltas == [{"index": 0, **tool[0]}]
    assert reasons(calls)[-1] == "stop"


async def test_max_tokens_cuts_it_off_between_words(calling):
    async with calling() as caller:
        whole = await caller.send(response_format=FORMAT)
        cut = await caller.send(response_format=FORMAT, max_tokens=2)
        enough = await caller.send(response_format=FORMAT, max_tokens=4)
    assert len(whole.content.split()) == 4
    assert whole.content.startswith(cut.content)
    assert (cut.body["choices"][0]["finish_reason"], cut.body["usage"]["completion_tokens"]) == ("length", 2)
    assert enough.content == whole.content


async def test_the_answer_follows_from_seed_model_prompt_and_choice(calling):
    wide = {"type": "json_schema", "json_schema": {"schema": {"type": "string", "format": "uuid"}}}
    async with calling() as caller:
        bodies = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a", "model": "m2"}]
        texts = [(await caller.send(body.pop("prompt"), response_format=wide, **body)).content for body in bodies]
        both = (await caller.send("a", response_format=wide, n=2)).body["choices"]
    async with calling("seed=1") as caller:
        texts.append((await caller.send("a", response_format=wide)).content)
    assert len({*texts, both[1]["message"]["content"]}) == 5
    assert both[0]["message"]["content"] == texts[0]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": messages(("user", "I like JSON Schema"))},
        {"messages": messages(("user", 'This JSON Schema: {"a": 1}'))},
        {"messages": messages(("user", "This JSON Schema: {broken"))},
        {"messages": messages(("user", json.dumps(SCHEMA)))},
        {"messages": messages(("user", "This JSON Schema: " + '{"type":' * 100_000))},
        {"response_format": {"type": "text"}},
        {"response_format": "json_schema", "tools": "x", "tool_choice": 3},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "another"}}},
    ],
    ids=range(8),
)
async def test_other_requests_get_words(calling, body):
    async with calling() as caller:
        plain = await caller.send(**{name: body[name] for name in body if name == "messages"})
        assert (await caller.send(**body)).content == plain.content
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(plain.content)


async def test_null_where_nothing_fits(calling):
    body = {"type": "json_schema", "json_schema": {"schema": {"allOf": [{"type": "string"}, {"type": "null"}]}}}
    async with calling() as caller:
        assert (await caller.send(response_format=body)).content == "null"


async def test_a_model_without_structured_outputs_ignores_or_refuses_a_schema(calling):
    listed = messages(("system", PROMPT), ("user", "Hello"))
    async with calling("structured_outputs[b]=false&400_schema[c]=1") as caller:
        right = await caller.send(model="a", response_format=FORMAT)
        ignored, plain = await caller.send(model="b", response_format=FORMAT), await caller.send(model="b")
        prompted = await caller.send(model="b", response_format=FORMAT, messages=listed)
        tool = await caller.send(model="b", tools=[TOOL], tool_choice=CHOICE)
        refused = await caller.send(model="c", response_format=FORMAT)
        taken = await caller.send(model="c", response_format={"type": "json_object"}, messages=listed)
    assert fits(json.loads(right.content))
    assert ignored.content == plain.content
    assert fits(json.loads(prompted.content))
    assert tool.body["choices"][0]["message"]["tool_calls"]
    assert (refused.status, refused.error["param"]) == (400, "response_format")
    assert "'response_format' of type 'json_schema' is not supported with this model" in refused.error["message"]
    assert fits(json.loads(taken.content))
