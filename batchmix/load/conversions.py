"""Recognises rows in the formats of other tools by their columns, and gives shell commands that convert such files."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchmix.formats.display import clean
from batchmix.job import MEMORY
from batchmix.load.files import STDIN, shown
from batchmix.remote.files import is_url

_EACH = "{python} 'import json, sys; [print(json.dumps({each})) for r in {rows}]' < {file} > {jsonl}"
"""A command that writes `each`, an expression over `r`, as a JSON line for every `r` in `rows`."""
_SYSTEM_FIRST = '[{"role": "system", "content": s} for s in [%s.get("system")] if s] + '
_WITHOUT_SYSTEM = (
    '**{{"stop_sequences": "stop"}.get(k, k): v for k, v in %s.items() if k not in ("system", "anthropic_version")}'
)
_ANTHROPIC = (f'{{"custom_id": r["custom_id"], {_WITHOUT_SYSTEM}, "messages": {_SYSTEM_FIRST}%s["messages"]}}').replace(
    "%s", 'r["params"]'
)
_BEDROCK = _ANTHROPIC.replace('r["params"]', 'r["modelInput"]').replace('r["custom_id"]', 'r["recordId"]')
_ANTHROPIC_BODY = f'{{{_WITHOUT_SYSTEM}, "messages": {_SYSTEM_FIRST}%s["messages"]}}'.replace("%s", "r")
_GEMINI = (
    '{"custom_id": r.get("key"), "messages": [{"role": {"model": "assistant", "system": "system"}.get(c.get("role"),'
    ' "user"), "content": "".join(p["text"] for p in c["parts"])} for c in [{**s, "role": "system"} for s in'
    ' [r["request"].get("systemInstruction") or r["request"].get("system_instruction")] if s] +'
    ' r["request"]["contents"]], **{n: v for g, n in [("maxOutputTokens", "max_tokens"), ("temperature",'
    ' "temperature"), ("topP", "top_p"),'
    ' ("stopSequences", "stop")] for v in [r["request"].get("generationConfig", {}).get(g)] if v is not None}}'
)
_SHAREGPT = (
    '{**{k: v for k, v in r.items() if k != "system"}, "messages": [{"role": "system", "content": s} for s in'
    ' [r.get("system")] if s] + [{"role": {"human": "user", "gpt": "assistant"}.get(m["from"], m["from"]),'
    ' "content": m["value"]} for m in r["NAME"]]}'
)
_COHERE = (
    '{"messages": [{"role": "system", "content": s} for s in [r.get("preamble")] if s] + [{"role":'
    ' {"CHATBOT": "assistant"}.get(m["role"], m["role"].lower()), "content": m["message"]} for m in'
    ' r.get("chat_history") or []] + [{"role": "user", "content": r["message"]}]}'
)
_RESPONSES = '{"custom_id": str(n), "method": "POST", "url": "/v1/responses", "body": r}'


def conversion_of(row: Mapping[str, Any]) -> str | None:
    """Return a phrase with the format of another tool's row and the command that converts its file.

    None if the row is not in a known format.
    """
    if row.keys() >= {"model", "messages", "system", "max_tokens"} and isinstance(row["messages"], list):
        return "a request of Anthropic's; convert it to OpenAI's form: " + _command(_ANTHROPIC_BODY)
    if row.keys() & {"messages", "prompt", "body"}:
        return _prompt_shape(row.get("prompt")) if row.get("messages") is None else None
    if isinstance(row.get("params"), dict) and "messages" in row["params"]:
        return "a line of an Anthropic batch; convert it to OpenAI's form: " + _command(_ANTHROPIC)
    if isinstance(row.get("request"), dict) and "contents" in row["request"]:
        return "a line of a Gemini batch; convert it to OpenAI's form: " + _command(_GEMINI)
    if isinstance(row.get("contents"), list):
        return "a request of Gemini's; convert it to OpenAI's form: " + _command(_GEMINI.replace('r["request"]', "r"))
    if isinstance(row.get("modelInput"), dict):
        return _bedrock_shape(row["modelInput"])
    if "instruction" in row:
        more = next(
            (f"{{% if {name} %}} {{{{ {name} }}}}{{% endif %}}" for name in ("input", "context") if name in row), ""
        )
        return "an Alpaca row; use a template: " + f"--prompt '{{{{ instruction }}}}{more}'"
    if isinstance(row.get("message"), str) and row.keys() & {"chat_history", "preamble"}:
        return "a request of Cohere's; convert it to OpenAI's form: " + _command(_COHERE)
    if {"model", "input"} <= row.keys():
        lines = (
            _command(_RESPONSES).replace("for r in map(", "for n, r in enumerate(map(").replace("stdin)]", "stdin))]")
        )
        return "a bare request of /responses or /embeddings; make it a Batch line with the right url: " + lines
    return _result_shape(row) or _conversation_shape(row)


def _bedrock_shape(body: Mapping[str, Any]) -> str:
    if "messages" in body:
        return "a line of a Bedrock batch; convert it to OpenAI's form: " + _command(_BEDROCK)
    name = "inputText" if "inputText" in body else "prompt"
    return f"a line of a Bedrock batch; use a template, such as --prompt '{{{{ modelInput.{name} }}}}'"


def _result_shape(row: Mapping[str, Any]) -> str | None:
    for name, key, whose in (
        ("response", "custom_id", "an OpenAI"),
        ("result", "custom_id", "an Anthropic"),
        ("response", "key", "a Gemini"),
    ):
        if isinstance(row.get(name), dict) and key in row:
            return f"a line of the output of {whose} batch; give the file that the batch was made from"
    return None


def _conversation_shape(row: Mapping[str, Any]) -> str | None:
    """Return a phrase with the column that has messages (OpenAI's or ShareGPT's) and the command that converts them.

    None if no column has any.
    """
    for name, value in row.items():
        key = json.dumps(name, ensure_ascii=False)
        if not name.isprintable() or "'" in name:
            continue
        if _all_have(value, "role", "content"):
            return f"a row with its messages in the column {clean(key, 60)}; rename it to messages: " + _command(
                f'{{**r, "messages": r[{key}]}}'
            )
        if isinstance(value, dict) and _all_have(value.get("messages"), "role", "content"):
            return f"a row with its messages inside the column {clean(key, 60)}; move them out: " + _command(
                f"{{**r, **r[{key}]}}"
            )
        if _all_have(value, "from", "value"):
            return "a ShareGPT conversation; convert it to messages: " + _command(_SHAREGPT.replace('"NAME"', key))
    return None


def _all_have(value: Any, *keys: str) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and item.keys() >= set(keys) for item in value)
    )


def _prompt_shape(prompt: Any) -> str | None:
    if not isinstance(prompt, list) or not prompt:
        return None
    if all(isinstance(item, dict) and "role" in item for item in prompt):
        return "a row whose prompt is a list of messages; rename it to messages: " + _command(
            '{**{k: v for k, v in r.items() if k != "prompt"}, "messages": r["prompt"]}'
        )
    if all(isinstance(item, str) for item in prompt):
        return "a row whose prompt is a list of texts; give each text a row of its own"
    if all(type(item) is int for item in prompt):
        return "a row whose prompt is a list of token ids; chat models need text"
    return None


def _command(row: str) -> str:
    return each_row(row, "map(json.loads, sys.stdin)")


def each_row(row: str, rows: str) -> str:
    """Return a shell command that converts a file to JSON lines, with placeholders for `fill_in`.

    `rows` is a Python expression for the rows of the file. `row` is a Python expression for the new row, given a row
    `r`.
    """
    return _EACH.replace("{each}", row).replace("{rows}", rows)


def fill_in(sentence: str, path: str) -> str:
    """Return a sentence with its `{placeholders}` replaced by the name of a file, and by names for new files beside it.

    `{file}` is the file's name, and `{jsonl}` (or another supported suffix) is a new name with that suffix. `{same}` is
    a new name with the suffix that the file has, or with `.jsonl` if the file's suffix is not supported.
    """
    from batchmix.load.sources import supported_suffixes  # the table of formats imports this module

    name = "FILE" if path == STDIN or path.startswith(MEMORY) else shown(path)
    name = Path(name).name if is_url(path) else name  # a command is for a copy on this machine
    folder, stem = Path(name).parent, Path(name).name.partition(".")[0] or "rows"
    names = {"file": shlex.quote(name), "name": name.replace('"', '\\"').replace("'", "'\\''")}
    suffixes = supported_suffixes()
    for suffix in suffixes:
        new = str(folder / f"{stem}{suffix}")
        names[suffix[1:]] = shlex.quote(str(folder / f"{stem}-new{suffix}") if new == name else new)
    kept = next((suffix for suffix in Path(name.lower()).suffixes[::-1] if suffix in suffixes), ".jsonl")
    names["same"] = names[kept[1:]]
    python = shlex.quote(sys.executable or "python3")
    names |= {"python": f"{python} -c", "module": f"{python} -m"}
    return re.sub(r"\{(\w+)\}", lambda placeholder: names.get(placeholder[1], placeholder[0]), sentence)


def commas(mark: str) -> str:
    """Return the command that rewrites a table delimited by `mark` as CSV, with placeholders for `fill_in`."""
    command = f'import csv, sys; csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, delimiter="{mark}"))'
    return "{python} '" + command + "' < {file} > {csv}"


def with_commas(path: str, mark: str) -> str:
    """Return the command that rewrites the file at `path`, a table delimited by `mark`, as CSV."""
    return fill_in(commas(mark), path)


def without_first(path: str) -> str:
    """Return the command that copies a file without its first line."""
    return fill_in("tail -n +2 {file} > {same}", path)


def bare_cr_message(path: str) -> str:
    """Return a message for a CSV file whose lines end in a bare CR, with the command that fixes the file."""
    return fill_in("its lines end in CR alone: tr '\\r' '\\n' < {file} > {csv}", path)
