"""CSV and TSV: tables with a header, text cells, and rows with their line numbers."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmix.errors import InputError
from batchmix.load.csv_lines import csv_to_json
from batchmix.load.files import Source
from tests.load.conftest import all_requests, carried_rows, make_job, open_rows, prompts_of, requests_of, stored


def _rows(data: bytes, delimiter: str = ",", block_bytes: int = 7) -> list[Any]:
    """Return the content of each line, None for an empty one."""
    blocks = (data[at : at + block_bytes] for at in range(0, len(data), block_bytes))
    text = b"".join(csv_to_json(blocks, Source("t", {",": "csv", "\t": "tsv"}[delimiter]), delimiter))
    return [json.loads(line) if line else None for line in text.split(b"\n")[:-1]]


def test_cells_are_text_and_rows_keep_their_line_numbers() -> None:
    """Quotes, line breaks in cells, empty lines, a byte order mark, CRLF, no line break at the end."""
    data = '\ufeffid,text\r\n1,"a, ""b"""\r\n\r\n2,"two\r\nlines"\r\n3,\r\n4,""\r\n"",é'.encode()
    assert _rows(data) == [
        None,
        {"id": "1", "text": 'a, "b"'},
        None,
        {"id": "2", "text": "two\r\nlines"},
        None,
        {"id": "3", "text": None},
        {"id": "4", "text": ""},
        {"id": "", "text": "é"},
    ]
    assert _rows(b'a\tb c\n1,2\t"x\ty"\n', "\t") == [None, {"a": "1,2", "b c": "x\ty"}]


def test_a_wrong_record_is_reported_in_its_place() -> None:
    data = b'a,b\n1\n1,2,3\n"x"y,2\n\xff,2\n1,2\n"open,2\n'
    assert _rows(data) == [
        None,
        "has 1 cell, and the header has 2",
        "has 3 cells, and the header has 2",
        "can't be read as a record: ',' expected after '\"'; in a quoted cell a quote stands twice",
        "is not UTF-8",
        {"a": "1", "b": "2"},
        "can't be read as a record: unexpected end of data; in a quoted cell a quote stands twice",
    ]


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=2, max_size=2), max_size=5
    ),
    st.sampled_from([",", "\t"]),
    st.integers(1, 50),
)
def test_tables_written_by_python_are_read_back_unchanged(rows: list[list[str]], kind: str, block_bytes: int) -> None:
    """Whatever a cell contains, and wherever a block ends."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=kind, quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b"], *rows])
    found = [row for row in _rows(sink.getvalue().encode(), kind, block_bytes) if row is not None]
    assert found == [{"a": a, "b": b} for a, b in rows]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", "text,n,text\n1,2,3\n", "a.csv:1: has two columns named 'text'"),
        ("a.csv", ",text\n0,x\n", "a.csv:1: column 1 has no name in the header; if pandas"),
        ("a.csv", "text,n\n", "a.csv: there are no rows in it"),
        ("a.csv", "", "a.csv: there are no rows in it"),
        ("a.csv", "text;n\nx;1\n", "a.csv: the columns are separated by semicolons; convert it: "),
        ("a.csv", "text,n\rx,1\ry,2\r", "a.csv: its lines end in CR alone: tr '\\r' '\\n' < a.csv > a-new.csv"),
        ("a.csv", "text\tn\nx\t1\n", "a.csv: the columns are separated by tabs; convert it: "),
        ("a.csv", '{"prompt": "x"}\n', "a.csv: is JSON lines: mv a.csv a.jsonl"),
        ("a.csv", "text,n\nx,1\n".encode("utf-16"), "a.csv: is text in UTF-16, not in UTF-8: iconv -f UTF-16 -t UTF-8 a.csv > a-new.csv"),
        ("a.csv", "prompt\nhé\n".encode("latin-1"), "a.csv: is text in WINDOWS-1252"),
        ("a.csv", b"prompt\n" + b"x\n" * 40000 + b"\xe9\n", "a.csv:40002: is not UTF-8\nIf the whole file is in Windows-1252"),
        ("a.csv", "prompt,n\nx,1\ny\n", "a.csv:3: has 1 cell, and the header has 2"),
        ("a.csv", 'prompt,n\n"x\n\n",1\n"y,1\n', "a.csv:5: can't be read as a record: unexpected end"),
        ("a.csv", "<html>\n", "a.csv: is HTML"),
        ("a.csv", "question,n\nx,1\n", "a.csv:2: has neither messages nor prompt"),
    ],
)  # fmt: skip
def test_an_impossible_table_is_refused_with_its_place(
    name: str, data: Any, words: str, tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(InputError) as caught:
        open_rows(make_job(name), spool)
    assert words in str(caught.value)
    assert not list(spool.glob("*"))


def test_a_quote_that_is_never_closed_takes_bounded_memory(
    rows_file: Any, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchmix.load.csv_lines._MAX_RECORD_BYTES", 1000)
    path = rows_file(b'prompt\nx\n"' + b"y\n" * 1000, "a.csv")
    with pytest.raises(InputError, match=r"a\.csv:3: the record is longer than 64 MB; is a quote not closed"):
        open_rows(make_job(path), spool)


def _table(count: int) -> bytes:
    return b"id,text,Review Text,n\n" + b"".join(b'r%d,"t\n%d",x,%d\n' % (n, n, n) for n in range(count))


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
@pytest.mark.usefixtures("settled")
def test_tables_behave_like_other_inputs(suffix: str, rows_file: Any, spool: Path) -> None:
    """They are read from any shard, carried, recognised by content when unchanged, and rejected row by row if configured."""
    data = _table(7) + b"bad\n" + b"r8,t8,x,8\n"
    pack = gzip.compress if suffix.endswith("gz") else bytes
    path = rows_file(pack(data), f"rows.{suffix}")
    job = make_job(path, prompt='{{ text }}{{ row["Review Text"] }}')
    with pytest.raises(InputError, match=r"rows\.csv(\.gz)?:16: has 1 cell"):
        open_rows(job, spool)
    dataset = open_rows(job, spool, reject_bad_rows=True)
    assert prompts_of(dataset, job)[5:] == [
        "t\n5x",
        "t\n6x",
        f"rows.{suffix}:16: has 1 cell, and the header has 4",
        "t8x",
    ]
    assert [request.row for request in requests_of(dataset, job, 1)] == [3, 4, 5]
    assert carried_rows(dataset)[8] == {"custom_id": "r8", "text": "t8", "Review Text": "x", "n": "8"}
    again = open_rows(job, spool, reject_bad_rows=True, previous=stored(dataset.scan))
    assert msgspec.structs.replace(again.scan, stamps=()) == msgspec.structs.replace(dataset.scan, stamps=())
    path.write_bytes(pack(data + b"r9,t9,x,9\n"))
    assert len(prompts_of(open_rows(job, spool, reject_bad_rows=True, previous=stored(dataset.scan)), job)) == 10


def test_messages_may_be_json_in_a_cell_and_columns_may_have_types(rows_file: Any, spool: Path) -> None:
    messages = json.dumps([{"role": "user", "content": "x"}]).replace('"', '""')
    path = rows_file(f'messages,score,empty\n"{messages}",0.5,\n'.encode(), "rows.csv")
    job = make_job(path, columns=[{"from": "score", "to": "score", "type": "double"}, "empty"])
    dataset = open_rows(job, spool)
    assert json.loads(all_requests(dataset, job)[0].body)["messages"] == [{"role": "user", "content": "x"}]
    assert carried_rows(dataset) == [{"custom_id": "0", "score": 0.5, "empty": None}]
