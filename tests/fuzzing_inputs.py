"""Damaged inputs: files as people and programs write them, with job settings that may or may not fit."""

from __future__ import annotations

import bz2
import csv
import dataclasses
import gzip
import io
import lzma
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzzing import changed, mutated, odd_value, written
from tests.odd_tables import OddTables

_PROMPTS = [
    *["Say {{ text }}"] * 6,
    "{{ n }} {{ text }}",
    '{{ row["a b"] }} {{ text }}',
    "{% for x in many %}{{ x }}{% endfor %}{{ text }}",
    "{{ text | upper }}{{ text.k }}",
    "{{ row }} {{ row['extra.x'].items() }}",
]
_KINDS = ["jsonl", "jsonl", "batch", "messages", "bodies", "parquet", "parquet", "csv", "csv", "tsv"]
_MARKS = {"csv": ",", "tsv": "\t"}
_TYPES = ["string", "int64", "int8", "uint64", "double", "bool", "date", "time", "timestamp", "timestamp[ns]",
          "timestamptz", "decimal(10,2)", "json"]  # fmt: skip
_CELLS = ["a", "1", "", '""', "x, y", "two\nlines", "é", "NaN", '"', "-1.50", "9007199254740993", "true", "2026-02-30",
          "2026-01-31T23:59:30.5Z", "23:59:30", '{"a": [1]}', "1e400", "=1+1", "\x1b[31m", " 7 ", "\r"]  # fmt: skip
_ENCODINGS = ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "shift_jis"]
_PARAMETERS: dict[str, list[Any]] = {
    "temperature": [0, 0.5, float("nan"), "0.2", "warm"],
    "max_tokens": [5, 5.0, "5", -1, 2**70, True],
    "tools": [[{"type": "function", "function": {"name": "f"}}], '[{"type": "function"}]', {}, None],
    "response_format": [{"type": "json_object"}, '{"type": "text"}', "json"],
    "stop": ["x", ["x", "y"], 1],
    "stream": [True, False, "true", None],
    "n": [1, 2, 0],
    "user": ["u", 1],
}


@dataclasses.dataclass
class OddInput:
    """An input file, and the options with which the program is called."""

    path: str
    settings: list[str]
    stdin: bytes = b""
    """The content of standard input, if the path is `-`."""


def write_input(dice: random.Random, folder: Path) -> OddInput:
    """Write an input file, which is damaged in most cases."""
    kind = dice.choice(_KINDS)
    settings = _settings(dice, kind)
    suffix = f".{kind}" if kind in {"parquet", *_MARKS} else dice.choice([".jsonl", ".jsonl", ".ndjson"])
    if dice.random() < 0.2:  # several files, which need not agree
        (folder / "input").mkdir()
        for number in range(dice.randint(2, 3)):
            data, more = _packed(dice, kind, _content(dice, kind))
            (folder / "input" / f"{number}{suffix}{more}").write_bytes(data)
        return OddInput(str(folder / "input" / dice.choice(["", "*"])), settings)
    data, more = _packed(dice, kind, _content(dice, kind))
    if dice.random() < 0.1:
        return OddInput("-", settings, data)
    source = folder / f"rows{suffix}{more}"
    source.write_bytes(data)
    return OddInput(str(source), settings)


def _settings(dice: random.Random, kind: str) -> list[str]:
    settings = ["--bad-rows", dice.choice(["reject", "reject", "reject", "fail"])] if dice.random() < 0.8 else []
    if kind in {"jsonl", "parquet", *_MARKS}:
        settings += ["--prompt", dice.choice(_PROMPTS)]
    if kind != "bodies" or dice.random() < 0.3:
        settings += ["--model", "m"]
    if dice.random() < 0.3:
        names = dice.sample(["text", "n", "a b", "many", "id"], dice.randint(1, 3))
        types = [f', type = "{dice.choice(_TYPES)}"' if dice.random() < 0.7 else "" for _ in names]
        columns = [f'{{from = "{name}"{kind}}}' for name, kind in zip(names, types, strict=True)]
        settings += ["--set", f"input.columns=[{', '.join(columns)}]"]
    for setting, names in (("id", ["id", "n", "a b"]), ("params", ["many", "extra.x", ""]), ("model", ["text", "n"])):
        if dice.random() < 0.04:
            settings += ["--set", f"input.{setting}='{dice.choice(names)}'"]
    return settings


def _packed(dice: random.Random, kind: str, data: bytes) -> tuple[bytes, str]:
    """Return the bytes of a file, perhaps compressed or in another encoding, and the suffix for its name."""
    if kind == "parquet":
        return data, ""
    if dice.random() < 0.1:
        data = data.decode(errors="replace").encode(dice.choice(_ENCODINGS), "replace")
    if dice.random() < 0.1:
        data = dice.choice([b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r\n"), data.replace(b"\n", b"\r")])
    if dice.random() < 0.85:
        return data, ""
    packed, more = dice.choice([
        (gzip.compress(data) + bytes(dice.choice([0, 0, 100])), ".gz"), (gzip.compress(data) * 2, ".gz"),
        (pa.Codec("zstd").compress(data, asbytes=True), ".zst"), (bz2.compress(data), ".bz2"), (lzma.compress(data), ".xz"),
    ])  # fmt: skip
    packed = packed[: dice.randint(0, len(packed))] if dice.random() < 0.2 else packed
    return packed, dice.choice([more, more, more, "", ".gz"])


def _content(dice: random.Random, kind: str) -> bytes:
    rows = dice.randint(1, 20)
    if kind == "parquet":
        return _parquet(dice, rows)
    data = _table(dice, rows, _MARKS[kind]) if kind in _MARKS else _lines(dice, rows, kind)
    return mutated(dice, data) if dice.random() < 0.2 else data


def _lines(dice: random.Random, rows: int, kind: str) -> bytes:
    made = {"batch": _batch_line, "messages": _messages, "bodies": _body, "jsonl": _plain}[kind]
    return b"".join(written(_shaken(dice, made(dice, number))) + b"\n" for number in range(rows))


def _shaken(dice: random.Random, row: dict[str, Any]) -> Any:
    return changed(dice, row) if dice.random() < 0.1 else row


def _plain(dice: random.Random, number: int) -> dict[str, Any]:
    row = {"id": f"r{number}", "text": f"word {number}", "n": number, "a b": "x", "many": [1, "two"]}
    if dice.random() < 0.3:
        row[dice.choice(["n", "extra.x", "a b", "many"])] = odd_value(dice, 3)
    return row


def _messages(dice: random.Random, number: int) -> dict[str, Any]:
    messages: list[Any] = [{"role": "system", "content": "s"}, {"role": "user", "content": f"word {number}"}]
    if dice.random() < 0.2:
        messages[1]["weight"] = dice.choice([0, 1, None])
    row = {"messages": dice.choice([messages] * 5 + [written(messages).decode()]), "n": number}
    for name in dice.sample(list(_PARAMETERS), dice.choice([0, 0, 1, 2])):
        row[name] = dice.choice(_PARAMETERS[name])
    return row


def _body(dice: random.Random, number: int) -> dict[str, Any]:
    return {"model": dice.choice(["m", "m", "other"]), **_messages(dice, number)}


def _batch_line(dice: random.Random, number: int) -> dict[str, Any]:
    url = dice.choice(["/v1/chat/completions"] * 5 + ["/chat/completions", "/v1/odd", ""])
    return {"custom_id": f"c{number}", "method": "POST", "url": url, "body": _body(dice, number)}


def _table(dice: random.Random, rows: int, mark: str) -> bytes:
    file = io.StringIO()
    writer = csv.writer(
        file, delimiter=mark, lineterminator="\n", quoting=dice.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    )
    names = dice.choice(
        [["text", "n", "a b"]] * 5 + [["text", "n", "messages"], ["text", "text", "n"], ["text", "", "n"]]
    )
    writer.writerow(names)
    for number in range(rows):
        cells = [f"word {number}", *(dice.choice(_CELLS) for _ in names[1:])]
        writer.writerow([*cells, "more"] if dice.random() < 0.02 else cells)
    return file.getvalue().encode()


def _parquet(dice: random.Random, rows: int) -> bytes:
    file = io.BytesIO()
    table = _odd_table(dice, rows)
    compression = dice.choice(["none", "snappy", "zstd", "gzip"])
    sliced = "view" not in str(table.schema)  # pyarrow can't slice these as it writes
    pq.write_table(table, file, row_group_size=dice.choice([1, 5, 1000]) if sliced else 1000, compression=compression)
    data = file.getvalue()
    if dice.random() < 0.2:
        at = dice.randrange(len(data))
        data = dice.choice([
            data[:at] + dice.randbytes(dice.randint(1, 4)) + data[at + 1 :], data[:at], mutated(dice, data),
        ])  # fmt: skip
    return data


def _odd_table(dice: random.Random, rows: int) -> pa.Table:
    """Return a table with a column `text`, and with columns of odd types."""
    odd = OddTables(dice.randrange(2**32))
    columns = {"text": pa.array([f"word {row}" for row in range(rows)])}
    if dice.random() < 0.2:
        columns["text"] = columns["text"].cast(dice.choice([pa.large_string(), pa.string_view(), pa.binary()]))
    elif dice.random() < 0.1:
        columns["text"] = dice.choice([columns["text"].dictionary_encode(), odd.column(1, rows)])
    for name in ("n", "a b", "many", "extra.x", "id", "é"):
        if dice.random() < 0.5:
            columns[name] = odd.column(dice.choice([0, 0, 1, 2]), rows)
    if dice.random() < 0.1:
        messages = [{"role": "user", "content": f"word {row}", "weight": None} for row in range(rows)]
        columns["messages"] = pa.array([[one] for one in messages])
        columns["temperature"] = dice.choice([pa.array([0.5] * rows), pa.nulls(rows), pa.array(["warm"] * rows)])
    return pa.table(columns)
