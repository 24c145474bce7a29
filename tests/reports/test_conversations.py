"""Answers with their prompts are written as programs that train on them read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pydantic
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from batchmix.errors import UsageError
from batchmix.reports.conversations import write_conversations
from tests.conftest import Bench

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]
ROWS: list[dict[str, Any]] = [
    {"custom_id": "a", "messages": [{"role": "system", "content": "Be ü."}, {"role": "user", "content": "[[rehearsal:echo]] yes"}]},
    {"custom_id": "b", "messages": [{"role": "user", "content": "[[rehearsal:tools]]"}], "tools": TOOLS},
    {"custom_id": "c", "messages": [{"role": "user", "content": "[[rehearsal:400]]"}]},
    {"custom_id": "d", "messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "https://a.example/a.png"}}]}]},
]  # fmt: skip


@pytest.fixture
def chats(bench: Bench) -> Bench:
    bench.source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    del bench.settings["input"]["prompt"]
    bench.settings |= {"samples": 2}
    bench.settings["output"]["shard_rows"] = 2
    bench.run()
    return bench


def written(bench: Bench, form: str, where: str | None = None) -> tuple[list[Any], list[str]]:
    path = bench.root / f"{form}.jsonl"
    count, warnings = write_conversations(bench.out, path, form, where, [])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == count
    return lines, warnings


def test_openai_finetuning_gets_the_messages_with_the_answer(chats: Bench) -> None:
    """As OpenAI's own types check them."""
    lines, warnings = written(chats, "openai-finetune")
    answers = [row for row in chats.rows() if row["status"] == "ok"]
    assert [line["messages"][:-1] for line in lines] == [ROWS[row["row"]]["messages"] for row in answers]
    assert lines[0]["messages"][-1] == {"role": "assistant", "content": answers[0]["response"]}
    assert lines[2]["messages"][-1]["tool_calls"] == json.loads(answers[2]["tool_calls"])
    assert [line.get("tools") for line in lines] == [None, None, TOOLS, TOOLS, None, None]
    assert warnings == ["2 results left out: rejected, without an answer"]
    for line in lines:
        pydantic.TypeAdapter(list[ChatCompletionMessageParam]).validate_python(line["messages"])
        pydantic.TypeAdapter(list[ChatCompletionToolParam]).validate_python(line.get("tools", []))


def test_sharegpt_gets_turns_of_text(chats: Bench) -> None:
    """What it can't express is left out and counted; `datasets`, which trainers load files with, reads the rest."""
    lines, warnings = written(chats, "sharegpt", "{{ sample == 0 }}")
    said = chats.rows()[0]["response"]
    assert lines[0] == {
        "id": "a",
        "conversations": [{"from": "system", "value": "Be ü."}, {"from": "human", "value": "[[rehearsal:echo]] yes"}, {"from": "gpt", "value": said}],
    }  # fmt: skip
    assert lines[1]["conversations"][-1]["from"] == "function_call"
    assert set(json.loads(lines[1]["conversations"][-1]["value"])) == {"name", "arguments"}
    assert json.loads(lines[1]["tools"]) == [TOOLS[0]["function"]]
    assert len(lines) == 2
    assert [warning.split(":")[0] for warning in warnings] == ["1 result left out", "1 result left out"]
    loaded = datasets.load_dataset(
        "json", data_files=str(chats.root / "sharegpt.jsonl"), cache_dir=chats.root / "cache"
    )
    assert loaded["train"][0]["conversations"] == lines[0]["conversations"]


def test_changed_input_is_left_out_and_said(chats: Bench) -> None:
    changed = [*ROWS]
    changed[0] = {"custom_id": "a", "messages": [{"role": "user", "content": "another"}]}
    chats.source.write_text("".join(json.dumps(row) + "\n" for row in changed))
    lines, warnings = written(chats, "openai-finetune")
    assert len(lines) == 4
    assert "2 results left out: the input or the job has changed since they were sent" in warnings
    chats.source.unlink()
    with pytest.raises(UsageError, match="no such file"):
        written(chats, "openai-finetune")


def test_of_a_typed_answer_the_json_alone_is_trained_on(bench: Bench, tmp_path: Path) -> None:
    bench.source.write_text(json.dumps({"text": '[[rehearsal:echo]]\nHere:\n```json\n{"n": 1}\n```'}) + "\n")
    bench.settings["input"]["prompt"] = "{{ text }}"
    bench.settings["answer"] = {
        "schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    }
    bench.run()
    assert [row["healed"] for row in bench.rows()] == [True]
    (line,), _ = written(bench, "openai-finetune")
    assert json.loads(line["messages"][-1]["content"]) == {"n": 1}
