"""Writes the answers of a run, each with what was asked, as conversations that other programs train on.

A line of `openai-finetune` is `{"messages", "tools"?}`: https://platform.openai.com/docs/guides/supervised-fine-tuning
One of `sharegpt` is `{"id", "conversations": [{"from", "value"}], "tools"?}`, as LLaMA-Factory and Axolotl read it:
https://llamafactory.readthedocs.io/en/latest/getting_started/data_preparation.html
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchmix.answers.typed import TypedAnswers
from batchmix.engine import reader
from batchmix.engine.sent_requests import RequestStream, request_stream
from batchmix.errors import BatchmixError
from batchmix.formats.amounts import counted
from batchmix.formats.display import clean
from batchmix.formats.lenient_json import nonempty_json, read_json
from batchmix.records import Status
from batchmix.responses.endpoints import CHAT, endpoint_of
from batchmix.store.export_file import exported

_COLUMNS = (
    "row", "custom_id", "model", "sample", "status", "response", "tool_calls", "error_type", "request_hash", "healed",
)  # fmt: skip
_SPEAKERS = {"system": "system", "developer": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
Json = dict[str, Any]


class _LeftOutError(Exception):
    """Raised for a result that is no conversation. The text says why, for many of them."""


def write_conversations(
    folder: Path, file: Path, form: str, where: str | None, lost: list[str]
) -> tuple[int, list[str]]:
    """Write the conversations of a run, and return how many there are, and warnings.

    Results without an answer are left out and counted. So are those of which the input or the job has changed. Messages
    about unreadable data are added to `lost`. Raises `UsageError`.
    """
    run = reader.run_of(folder)
    reader.refuse_input(run, file)
    line = {"openai-finetune": _finetune, "sharegpt": _sharegpt}[form]
    left_out: Counter[str] = Counter()
    count = 0
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(
            stack.enter_context(exported(file, reader.job_of(folder).output.permissions)).open("w", encoding="utf-8")
        )
        requests = stack.enter_context(request_stream(folder))
        for row in _rows(folder, where, lost):
            try:
                made = line(row["custom_id"], *_conversation(row, requests, run.typed))
            except _LeftOutError as error:
                left_out[str(error)] += 1
                continue
            out.write(f"{nonempty_json(made, readable=True)}\n")
            count += 1
    return count, [f"{counted(number, 'result')} left out: {why}" for why, number in left_out.most_common()]


def _rows(folder: Path, where: str | None, lost: list[str]) -> Iterator[Json]:
    for batch in reader.results(folder, _COLUMNS, lost, where):
        yield from batch.to_pylist()


def _conversation(row: Json, requests: RequestStream, typed: TypedAnswers | None) -> tuple[Json, list[Json]]:
    """Return the body of a result's request, and its messages with the answer. Raises `_LeftOutError`."""
    if row["status"] != Status.OK:
        raise _LeftOutError(f"{row['status']}, without an answer")
    if row["error_type"] is not None:
        raise _LeftOutError("the answer does not fit the schema")
    calls = read_json(row["tool_calls"].encode()) if row["tool_calls"] else None
    if row["response"] is None and not calls:
        raise _LeftOutError("the answer has no text and calls no tool")
    try:
        request = requests.find((row["row"], row["model"], row["sample"]))
    except BatchmixError as error:
        raise _LeftOutError(f"the input can't be read any more: {clean(str(error))}") from None
    if request is None or request.hash != row["request_hash"]:
        raise _LeftOutError("the input or the job has changed since they were sent")
    if endpoint_of(request.path).suffix != CHAT:
        raise _LeftOutError("the request is no chat completion")
    answer: Json = {"role": "assistant"}
    if row["response"] is not None:
        answer["content"] = _text(row, typed)
    if calls:
        answer["tool_calls"] = calls
    body: Json = json.loads(request.body)
    return body, [*body["messages"], answer]


def _text(row: Json, typed: TypedAnswers | None) -> str:
    """Return an answer's text. If there was more than JSON in that of a typed answer, it is the JSON alone."""
    text: str = row["response"]
    if typed is None or not row["healed"]:
        return text
    return nonempty_json(typed.value(text, row["tool_calls"]), readable=True) or text


def _finetune(_: str, body: Json, messages: list[Json]) -> Json:
    names = ("tools", "parallel_tool_calls", "functions")
    return {"messages": messages} | {name: body[name] for name in names if name in body}


def _sharegpt(custom_id: str, body: Json, messages: list[Json]) -> Json:
    line: Json = {"id": custom_id, "conversations": [_turn(message) for message in messages]}
    if body.get("tools"):
        functions = [tool.get("function", tool) for tool in body["tools"]]
        line["tools"] = json.dumps(functions, ensure_ascii=False)
    return line


def _turn(message: Json) -> Json:
    speaker, content = _SPEAKERS.get(message.get("role", "")), message.get("content")
    calls = [_call(call) for call in message.get("tool_calls") or ()]
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "\n".join(part["text"] for part in content)
    if calls and not content:
        return {
            "from": "function_call",
            "value": json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False),
        }
    if speaker is None or calls or not isinstance(content, str):
        raise _LeftOutError("a message has more than text, such as a picture, which sharegpt can't express")
    return {"from": speaker, "value": content}


def _call(call: Json) -> Json:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    parsed = read_json(arguments.encode("utf-8", "replace")) if isinstance(arguments, str) else arguments
    return {"name": function.get("name"), "arguments": arguments if parsed is None else parsed}
