from __future__ import annotations

import datetime
import decimal
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmix.errors import InputError
from batchmix.job import Limits, Model
from batchmix.load import table_input
from batchmix.load.parquet import ParquetFile
from batchmix.load.table_input import Cursor, TableInput
from tests.load.conftest import all_requests, carried_rows, make_job, open_rows, prompts_of, requests_of


@pytest.fixture
def table_file(tmp_path: Path) -> Any:
    """Write columns into a Parquet file, and return its path."""

    def write(columns: Any, name: str = "rows.parquet", **options: Any) -> Path:
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(table, tmp_path / name, **options)
        return tmp_path / name

    return write


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5)), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans()), max_size=6),
    st.integers(1, 4),
)
def test_a_cursor_reads_any_ranges_in_any_order(tmp_path_factory: Any, files: Any, ranges: Any, batch: int) -> None:
    """Across files and row groups, for ranges in any order, some of them not read to the end."""
    folder = tmp_path_factory.mktemp("cursor")
    paths, total = [], 0
    for number, (rows, group) in enumerate(files):
        paths.append(str(folder / f"{number}.parquet"))
        table = pa.table({"n": pa.array(range(total, total + rows), pa.int64())})
        pq.write_table(table, paths[-1], row_group_size=group)
        total += rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_input, "_BATCH_ROWS", batch)
        cursor = Cursor(TableInput(paths, ParquetFile), ["n"])
        for a, b, is_left_early in ranges:
            first, stop = min(a, b, total), min(max(a, b), total)
            if is_left_early:
                next(cursor.read(first, stop), None)
                continue
            found = [n for part in cursor.read(first, stop) for n in part.column("n").to_pylist()]
            assert found == list(range(first, stop))


def test_a_range_that_was_not_read_to_its_end_can_be_read_again(table_file: Any, monkeypatch: Any) -> None:
    """It starts from its beginning again."""
    monkeypatch.setattr(table_input, "_BATCH_ROWS", 2)
    cursor = Cursor(TableInput([str(table_file({"n": list(range(10))}))], ParquetFile), ["n"])
    for first in (0, 4):
        next(cursor.read(first, 9))
        assert [n for part in cursor.read(first, 9) for n in part.column("n").to_pylist()] == list(range(first, 9))


def test_reading_all_shards_decodes_a_row_group_once(table_file: Any, spool: Path, monkeypatch: Any) -> None:
    """Also when some shards are skipped; two simultaneous passes have a cursor each."""
    path = table_file({"prompt": [str(i) for i in range(100)]})
    job = make_job(path)
    dataset = open_rows(job, spool, shard_rows=10)
    opened = []
    real = TableInput.batches
    monkeypatch.setattr(TableInput, "batches", lambda self, *args: opened.append(args) or real(self, *args))
    rows = [r.row for shard in (0, 1, 4, 5, 9) for r in requests_of(dataset, job, shard)]
    assert rows == [*range(20), *range(40, 60), *range(90, 100)]
    assert len(opened) == 1
    passes = [dataset.requests(0, job.models[0]) for _ in range(2)]
    assert [[r.row for r in batch] for batch in map(next, passes)] == [list(range(10))] * 2
    carried_rows(dataset)
    assert len(opened) == 4


def test_carried_columns_keep_their_types(table_file: Any, spool: Path) -> None:
    """Every type is kept exactly; a column of nulls becomes text."""
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "id": pa.array([7, None]),
            "prompt": pa.array(["a", "b"], pa.large_string()),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "when": pa.array([when, None], pa.timestamp("ns", "UTC")),
            "price": pa.array([decimal.Decimal("1.20"), None], pa.decimal128(10, 2)),
            "nested": pa.array([{"a": [1, None]}, None], pa.struct([("a", pa.list_(pa.int8()))])),
            "blob": pa.array([b"\xff", None]),
            "nothing": pa.nulls(2),
        }
    )
    dataset = open_rows(make_job(table_file(table)), spool)
    wanted = pa.schema([("custom_id", pa.string()), *((f.name, f.type) for f in table.schema if f.name != "id")])
    wanted = wanted.set(wanted.get_field_index("nothing"), pa.field("nothing", pa.string()))
    assert dataset.carried_schema == wanted
    (batch,) = dataset.carried(0)
    assert batch.schema == wanted
    assert batch.column("custom_id").to_pylist() == ["7", "1"]
    assert batch.column("blob").to_pylist() == [b"\xff", None]
    assert batch.column("kind").to_pylist() == ["x", "y"]


def test_templates_receive_plain_values_only(table_file: Any, spool: Path) -> None:
    """Dates are ISO text, decimals and bytes are text; a template must not reach attributes of Python objects."""
    when = datetime.datetime(2026, 1, 2, 3, 4, 5)
    table = pa.table(
        {
            "t": pa.array([when], pa.timestamp("ns")),
            "d": pa.array([datetime.date(2026, 1, 2)]),
            "p": pa.array([decimal.Decimal("1.20")], pa.decimal128(10, 2)),
            "b": pa.array([b"ab"]),
            "s": pa.array([{"t": when}], pa.struct([("t", pa.timestamp("us"))])),
            "f": pa.array([np.float16(1.5)], pa.float16()),
        }
    )
    path = table_file(table)
    job = make_job(path, prompt="{{ t }} {{ d }} {{ p }} {{ b }} {{ s.t }} {{ f }}")
    wanted = "2026-01-02T03:04:05 2026-01-02 1.20 YWI= 2026-01-02T03:04:05 1.5"
    assert prompts_of(open_rows(job, spool), job) == [wanted]
    job = make_job(path, prompt="{{ t.year }}")
    assert "undefined" in prompts_of(open_rows(job, spool), job)[0]


def test_a_uuid_annotated_only_by_parquet_is_text(tmp_path: Path, spool: Path) -> None:
    """As DuckDB and Spark write it, without an Arrow schema in the file."""
    value = uuid.UUID("903ec350-850c-43e8-a798-5642bdbd8b68")
    column = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([value.bytes], pa.binary(16)))
    pq.write_table(pa.table({"id": column}), tmp_path / "x.parquet", store_schema=False)
    job = make_job(tmp_path / "x.parquet", prompt="{{ id }}")
    dataset = open_rows(job, spool)
    assert prompts_of(dataset, job) == [str(value)]
    assert carried_rows(dataset)[0]["custom_id"] == str(value)


def test_messages_may_be_structs_or_json_text(table_file: Any, spool: Path) -> None:
    """Nulls that only fill up structs are not sent, but `content: null` is."""
    messages = [
        [{"role": "user", "content": "x", "name": None}],
        [{"role": "assistant", "content": None, "tool": {"a": 1, "b": None}}],
    ]
    wanted = [[{"role": "user", "content": "x"}], [{"role": "assistant", "content": None, "tool": {"a": 1}}]]
    job = make_job(table_file({"messages": messages}))
    assert [json.loads(r.body)["messages"] for r in all_requests(open_rows(job, spool), job)] == wanted
    job = make_job(table_file({"messages": [json.dumps(m) for m in wanted]}, "text.parquet"))
    assert [json.loads(r.body)["messages"] for r in all_requests(open_rows(job, spool), job)] == wanted


def test_batch_lines_in_parquet(table_file: Any, spool: Path) -> None:
    """The body may be a struct or JSON text."""
    bodies = [json.dumps({"model": "m", "n": 1}), json.dumps({"n": 2, "model": "m"})]
    job = make_job(table_file({"custom_id": ["a", "b"], "body": bodies}), model=None)
    dataset = open_rows(job, spool)
    assert dataset.scan.models == ("m",)
    found = all_requests(dataset, job, Model("m", "m", {}, Limits()))
    assert [r.body for r in found] == [b'{"model":"m","n":1}', b'{"n":2,"model":"m"}']


@pytest.mark.parametrize(
    ("columns", "input_settings", "reason"),
    [
        (
            {"prompt": [[{"role": "user", "content": "x"}]]},
            {},
            "it must be text; rename a list of messages to messages",
        ),
        ({"prompt": [1, 2]}, {}, "rows.parquet: the column prompt has the type int64; it must be text"),
        ({"messages": [1, 2]}, {}, "the column messages has the type int64; it must be a list of structs"),
        (
            {"q": ["x"]},
            {},
            "rows.parquet: has neither messages nor prompt; it has 'q'. Name columns in a template, such as --prompt '{{ q }}'",
        ),
        ({"messages": ["x", "[]"]}, {}, r"rows.parquet, row 0: messages is text(.|\n)*row 1: messages is empty"),
        ({"a": ["x"] * 30}, {"prompt": "{{ b }}"}, "row 0: has no column 'b', which the template names; it has"),
        ({"prompt": []}, {}, "there are no rows in it"),
        ({"custom_id": ["a"], "body": ["x"]}, {}, "row 0: is no Batch line: body is text"),
    ],
)
def test_a_wrong_file_is_refused(columns: Any, input_settings: Any, reason: str, table_file: Any, spool: Path) -> None:
    """By its types where they suffice, otherwise by its rows."""
    with pytest.raises(InputError, match=reason):
        open_rows(make_job(table_file(columns), **input_settings), spool)


def test_damage_is_found_before_anything_is_sent(table_file: Any, spool: Path) -> None:
    """In the columns that requests are built from."""
    path = table_file({"prompt": [f"prompt {i}" for i in range(5000)]}, use_dictionary=False, compression="zstd")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = b"\0" * 64
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"rows\.parquet: can't be read as Parquet"):
        open_rows(make_job(path, prompt="{{ prompt }}"), spool)


def test_several_files_are_one_table(table_file: Any, tmp_path: Path, spool: Path) -> None:
    """Missing columns are null, numbers widen; what does not fit is refused."""
    table_file({"prompt": ["a"], "n": pa.array([1], pa.int32())}, "a.parquet")
    table_file({"n": pa.array([2], pa.int64()), "prompt": ["b"], "more": ["m"]}, "b.parquet")
    job = make_job(tmp_path)
    dataset = open_rows(job, spool)
    assert prompts_of(dataset, job) == ["a", "b"]
    assert dataset.carried_schema.field("n").type == pa.int64()
    assert [(row["n"], row["more"]) for row in carried_rows(dataset)] == [(1, None), (2, "m")]
    table_file({"prompt": ["b"], "n": [["list"]]}, "c.parquet")
    with pytest.raises(InputError, match="don't fit together"):
        open_rows(job, spool)


def test_a_template_without_columns_may_be_sent_for_one_row(table_file: Any, spool: Path) -> None:
    """No column is read for it, and a limit applies here too."""
    job = make_job(table_file({"x": [1, 2, 3, 4]}), prompt="hello")
    assert prompts_of(open_rows(job, spool, limit=1), job) == ["hello"]


def test_the_output_of_a_run_as_input_loses_its_result_columns(table_file: Any, spool: Path) -> None:
    """It is recognised by its metadata."""
    table = pa.table({"row": [0], "prompt": ["p"], "status": ["ok"]}).replace_schema_metadata({"batchmix.schema": "1"})
    dataset = open_rows(make_job(table_file(table)), spool, reserved=frozenset({"row", "status"}))
    assert carried_rows(dataset) == [{"custom_id": "0", "prompt": "p"}]


def test_rejected_rows_are_named_by_file_and_row(table_file: Any, spool: Path) -> None:
    """In the same form as by the scan."""
    job = make_job(table_file({"messages": ["[]", '[{"role":"user","content":"x"}]']}))
    dataset = open_rows(job, spool, reject_bad_rows=True)
    assert dataset.scan.bad_rows == 1
    first, second = all_requests(dataset, job)
    assert first.failure.message.endswith("rows.parquet, row 0: messages is empty")
    assert second.row == 1


def test_a_text_that_the_scan_has_read_is_not_read_again(tmp_path: Path, spool: Path, monkeypatch: Any) -> None:
    """A column that only is carried is read once, to prove that it can be."""
    read: list[list[str]] = []
    real = Cursor.__init__
    monkeypatch.setattr(Cursor, "__init__", lambda self, files, columns: read.append(columns) or real(self, files, columns))  # fmt: skip
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": ["a", "b"], "note": ["x", "y"]}), path)
    dataset = open_rows(make_job(path), spool)
    assert read == [["prompt"], ["note"]]
    assert dataset.scan.proven == {"prompt": "string", "note": "string"}
