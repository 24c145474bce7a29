"""Writes results as the two files of an OpenAI batch: one for answers, one for failures.

A line is `{"id", "custom_id", "response": {"status_code", "request_id", "body"} | null, "error": {"code", "message"} |
null}`. With several models or samples, `/model/sample` is added to the `custom_id`, since it must be unique.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchmix.answers.typed import INVALID
from batchmix.errors import UsageError
from batchmix.formats.lenient_json import nonempty_json, read_json
from batchmix.records import Status
from batchmix.store.export_file import exported

_COLUMNS = (
    "row", "custom_id", "model", "sample", "status", "response", "reasoning", "refusal", "tool_calls", "finish_reason",
    "served_model", "prompt_tokens", "completion_tokens", "total_tokens", "finished_at", "http_status", "error_type",
    "error_code", "error_message", "request_id", "raw",
)  # fmt: skip


def errors_path(path: Path) -> Path:
    """Return the path of the file for failures, which is beside the file for answers."""
    return path.with_name(f"{path.stem}-errors{path.suffix}")


def write_batch_files(path: Path, batches: Iterator[pa.RecordBatch], *, several: bool, mode: int | None) -> None:
    """Write answers to `path` and failures to `errors_path`. Both files appear only when they are complete.

    `several` says whether each input row has more than one result.
    """
    _check_errors_file(errors_path(path))
    with exported(path, mode) as answers, exported(errors_path(path), mode) as errors, contextlib.ExitStack() as stack:
        good = stack.enter_context(answers.open("w", encoding="utf-8"))
        bad = stack.enter_context(errors.open("w", encoding="utf-8"))
        for batch in batches:
            for row in batch.select(_COLUMNS).to_pylist():
                file = good if row["status"] == Status.OK else bad
                file.write(f"{nonempty_json(_line(row, several=several), readable=True)}\n")


def _check_errors_file(path: Path) -> None:
    """Raise `UsageError` if there is another kind of file at this path, because the user did not name the path."""
    try:
        first = _head(path) if path.is_file() else b""
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from error
    if first and not first.replace(b" ", b"").startswith(b'{"id":"batch_'):
        raise UsageError(f"{path}: exists and is no errors file of a batch; move it away, or name another file")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _line(row: dict[str, Any], *, several: bool) -> dict[str, Any]:
    key = f"{row['row']}-{row['model']}-{row['sample']}"
    custom_id = row["custom_id"]
    return {
        "id": f"batch_req_{key}",
        "custom_id": f"{custom_id}/{row['model']}/{row['sample']}" if several else custom_id,
        "response": _response(row),
        "error": None if row["status"] == Status.OK else {
            # Of an answer that does not fit the schema, the code is the path of what is wrong, which is in the message.
            "code": INVALID if row["error_type"] == INVALID else row["error_code"] or row["error_type"],
            "message": row["error_message"],
        },
    }  # fmt: skip


def _response(row: dict[str, Any]) -> dict[str, Any] | None:
    body = _body(row["raw"]) or (_completion(row) if row["status"] == Status.OK else None)
    if body is None or row["http_status"] is None:
        return None
    return {"status_code": row["http_status"], "request_id": row["request_id"] or "", "body": body}


def _body(raw: str | None) -> dict[str, Any] | None:
    body = read_json(raw.encode("utf-8", "replace")) if raw else None
    return body if isinstance(body, dict) else None


def _completion(row: dict[str, Any]) -> dict[str, Any]:
    """Return a completion built from the result columns, for runs that keep no raw responses."""
    message = {"role": "assistant", "content": row["response"], "refusal": row["refusal"]}
    if row["reasoning"] is not None:
        message["reasoning_content"] = row["reasoning"]
    if row["tool_calls"] is not None:
        message["tool_calls"] = read_json(row["tool_calls"].encode())
    counts = {name: row[name] or 0 for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    return {
        "id": row["request_id"] or "",
        "object": "chat.completion",
        "created": int(row["finished_at"].timestamp()),
        "model": row["served_model"] or row["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": row["finish_reason"], "logprobs": None}],
        "usage": counts,
    }
