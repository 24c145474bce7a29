"""Typed answers in exports: nested in JSON lines, one column for each value in CSV, as in the parts in Parquet."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.engine import reader
from tests import odd_provider
from tests.conftest import Bench
from tests.wire import reply

SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "at": {"type": "string", "format": "date-time"},
        "address": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "place": {"type": "object", "properties": {"x": {"type": "number"}}},
            },
        },
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["mood"],
}
WHOLE = {
    "mood": "good", "at": "2024-02-29T23:30:00Z", "address": {"city": "Ürümqi", "place": {"x": 1.5}}, "tags": ["a", "b, c"],
}  # fmt: skip
SAID = [json.dumps(WHOLE), '{"mood": "bad"}', '{"mood": "great"}']


@pytest.fixture(params=[False, True], ids=["struct", "flat"])
def flatten(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def run(bench: Bench, provider: odd_provider.Provider, flatten: bool) -> Path:
    bench.settings |= {
        "answer": {"schema": SCHEMA, "repair": 0, "flatten": flatten},
        "provider": {"base_url": f"http://127.0.0.1:{provider.server_address[1]}/v1", "api_key_env": ""},
        "input": {"path": str(bench.source), "prompt": "row {{ n }} {{ text }}"},
    }
    bench.write(3)
    provider.answer = lambda row, attempt, _: said(SAID[row])
    bench.run()
    return bench.out


def said(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return reply(200, json.dumps({"id": "x", "model": "m", "choices": [choice]}).encode())


def exported(run: Path, name: str) -> Path:
    rows, warnings = reader.export(run, path := run.parent / name)
    assert (rows, warnings) == (3, [])
    return path


def test_csv_has_a_column_for_each_value(run: Path) -> None:
    with exported(run, "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = [{name: value for name, value in row.items() if name.startswith("answer")} for row in rows]
    empty = dict.fromkeys(
        ["answer.mood", "answer.at", "answer.address.city", "answer.address.place.x", "answer.tags"], ""
    )
    assert values == [
        {
            "answer.mood": "good", "answer.at": "2024-02-29T23:30:00Z", "answer.address.city": "Ürümqi",
            "answer.address.place.x": "1.5", "answer.tags": '["a","b, c"]',
        },
        empty | {"answer.mood": "bad"},
        empty,
    ]  # fmt: skip
    assert [(row["healed"], row["repairs"], row["error_type"]) for row in rows] == [
        ("false", "0", ""), ("false", "0", ""), ("", "0", "schema"),
    ]  # fmt: skip


def test_json_lines_have_the_value_with_all_its_levels(run: Path, flatten: bool) -> None:
    rows = [json.loads(line) for line in exported(run, "all.jsonl").read_text().splitlines()]
    partly = {**dict.fromkeys(WHOLE), "mood": "bad"}
    if flatten:
        of = [{name: row[f"answer.{name}"] for name in WHOLE} for row in rows]
        assert of == [WHOLE, partly, dict.fromkeys(WHOLE)]
    else:
        assert [row["answer"] for row in rows] == [WHOLE, partly, None]


def test_parquet_has_the_columns_of_the_parts(run: Path) -> None:
    path = exported(run, "all.parquet")
    whole = pq.read_table(run / "data")
    assert pq.read_schema(path).equals(whole.schema)
    assert pq.read_table(path).equals(whole)


def test_a_carried_object_stays_one_column_of_json_text_in_csv(bench: Bench) -> None:
    path = bench.root / "rows.parquet"
    pq.write_table(pa.table({"text": ["a"], "answer": [{"mood": "good"}]}), path)
    bench.settings["input"] = {"path": str(path), "prompt": "{{ text }}"}
    bench.run()
    reader.export(bench.out, bench.root / "all.csv")
    with (bench.root / "all.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert row["answer"] == '{"mood":"good"}'


ODD_NAMES: dict[str, Any] = {
    "a": {
        "b": "inner", "c,d": {'e"f': [{"x": 1}], "new\nline": {"at": "2026-11-27T12:00:00Z", "n": 1.5}, "s": 'q"u,o\nte'},
    },
    "a.b": "outer", "": True, "A": "other case", "=1+1": "=1+1", "cr\r": 1, "status": "mine", "any": {"k": [1, "2"]},
    "tab\t": "\x00", "address.city": "from the answer",
}  # fmt: skip


def schema_of(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"type": "object", "properties": {name: schema_of(inner) for name, inner in value.items()}}
    if isinstance(value, list):
        return {"type": "array", "items": schema_of(value[0])}
    return {"type": {str: "string", bool: "boolean", int: "integer", float: "number"}[type(value)]}


@pytest.mark.parametrize("flatten", [False, True])
def test_any_name_and_text_is_in_each_format(bench: Bench, provider: odd_provider.Provider, flatten: bool) -> None:
    schema = schema_of(ODD_NAMES)
    schema["properties"]["any"] = {}
    bench.settings |= {
        "answer": {"schema": schema, "repair": 0, "flatten": flatten, "send": "prompt"},
        "provider": {"base_url": f"http://127.0.0.1:{provider.server_address[1]}/v1", "api_key_env": ""},
        "input": {"path": str(bench.source), "prompt": "row {{ n }}"},
    }
    rows = [{"n": number, "answer.a.b_1": "carried"} for number in range(5)]
    bench.source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    nothing = ['{"a": {"c,d": {"new\\nline": {}}}}', '{"a": {"c,d": {}}}', "{}", '{"a": 1}']
    provider.answer = lambda row, attempt, _: said([json.dumps(ODD_NAMES), *nothing][row])
    bench.run()
    for name in ("all.csv", "all.jsonl", "all.parquet"):
        assert reader.export(bench.out, bench.root / name) == (5, [])
    with (bench.root / "all.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    assert len(head) == len(set(head))
    cells = [{key: line[at] for at, key in enumerate(head) if key.startswith("answer")} for line in lines]
    inner = "answer.a.c,d."
    assert cells[0] == {
        "answer.a.b": "outer", "answer.a.b_1": "carried", "answer.a.b_2": "inner", f'{inner}e"f': '[{"x":1}]',
        f"{inner}new\nline.at": "2026-11-27T12:00:00Z", f"{inner}new\nline.n": "1.5", f"{inner}s": 'q"u,o\nte',
        "answer.": "true", "answer.A": "other case", "answer.=1+1": "=1+1", "answer.cr\r": "1", "answer.status": "mine",
        "answer.any": '{"k":[1,"2"]}', "answer.tab\t": "\x00", "answer.address.city": "from the answer",
    }  # fmt: skip
    assert cells[1:] == [dict.fromkeys(cells[0], "") | {"answer.a.b_1": "carried"}] * 4
    row = json.loads((bench.root / "all.jsonl").read_text().splitlines()[0])
    whole = {name: row[f"answer.{name}"] for name in ODD_NAMES} if flatten else row["answer"]
    assert whole == ODD_NAMES | {"any": '{"k":[1,"2"]}'}
    assert pq.read_table(bench.root / "all.parquet").equals(pq.read_table(bench.out / "data"))


@pytest.mark.parametrize("on_invalid", ["fail", "keep"])
def test_lines_of_an_openai_batch_say_of_an_invalid_answer_what_is_wrong(
    bench: Bench, provider: odd_provider.Provider, on_invalid: str
) -> None:
    bench.settings |= {
        "answer": {"schema": SCHEMA, "repair": 0, "on_invalid": on_invalid},
        "provider": {"base_url": f"http://127.0.0.1:{provider.server_address[1]}/v1", "api_key_env": ""},
        "input": {"path": str(bench.source), "prompt": "row {{ n }} {{ text }}"},
    }
    bench.write(3)
    provider.answer = lambda row, attempt, _: said(SAID[row])
    bench.run()
    reader.export(bench.out, bench.root / "all.jsonl", openai_batch=True)
    good, bad = (
        [json.loads(line) for line in (bench.root / name).read_text().splitlines()]
        for name in ("all.jsonl", "all-errors.jsonl")
    )

    def texts(lines: list[Any]) -> list[str]:
        return [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines]

    if on_invalid == "keep":
        assert (texts(good), bad) == (SAID, [])
        assert {line["error"] for line in good} == {None}
    else:
        assert (texts(good), texts(bad)) == (SAID[:2], SAID[2:])
        assert bad[0]["error"]["code"] == "schema"
        assert bad[0]["error"]["message"].startswith("/mood: ")
