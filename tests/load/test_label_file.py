"""Labels of people are read from any table, belong to the answers they name, and are refused where that is unclear."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.errors import InputError
from batchmix.load import read_labels

ROWS = [
    {"custom_id": "a", "model": "m", "sample": 0, "label": "good"},
    {"custom_id": "a", "model": "k", "sample": 0, "label": "0.5"},
    {"custom_id": "b", "model": "m", "sample": 0, "label": None},
    {"custom_id": "ü,\n1", "model": "m", "sample": 1, "label": " bad "},
]


def result(**values: Any) -> dict[str, Any]:
    return {"row": 0, "custom_id": "a", "model": "m", "sample": 0} | values


def write(folder: Path, suffix: str) -> Path:
    path = folder / f"labels{suffix}"
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif suffix == ".jsonl":
        path.write_text(lines)
    elif suffix == ".jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        mark = "," if suffix == ".csv" else "\t"
        cells = [[f'"{"" if value is None else value}"' for value in row.values()] for row in ROWS]
        path.write_text("\n".join(mark.join(row) for row in [list(ROWS[0]), *cells]))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".jsonl.gz", ".parquet"])
def test_labels_are_read_from_each_format(tmp_path: Path, suffix: str) -> None:
    labels = read_labels(str(write(tmp_path, suffix)), "label", {"good": 1, "bad": 0})
    asked = [result(), result(model="k"), result(custom_id="b"), result(custom_id="ü,\n1", sample=1), result(sample=1)]
    found = [labels.of(one) for one in asked]
    assert labels.columns == ("custom_id", "model", "sample")
    assert [each and each.value for each in found] == [1, 0.5, None, 0, None]
    assert [each and each.text for each in found] == ["good", "0.5", None, "bad", None]


def test_a_label_without_model_and_sample_is_that_of_each_answer_to_its_row(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"row": 3, "label": 1}\n{"row": 4, "label": 0}\n')
    labels = read_labels(str(path))
    assert [(found := labels.of(result(row=row, model="x"))) and found.value for row in (3, 4, 5)] == [1, 0, None]


def test_a_label_of_an_answer_counts_for_that_answer_only(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('custom_id,response,label\na,"two\r\nlines",1\nb,,1\n', newline="")
    labels = read_labels(str(path))
    first, other = labels.of(result()), labels.of(result(custom_id="b"))
    assert first is not None
    assert other is not None
    assert (first.is_of("two\nlines "), first.is_of("two"), first.is_of(None)) == (True, False, False)
    assert (other.is_of("anything"), other.is_of(None)) == (True, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("custom_id,lable\na,1\n", "labels.csv: has no column 'label' with the labels; did you mean 'lable'?"),
        ("name,label\na,1\n", "labels.csv: needs the column custom_id or row"),
        ("row,label\n,1\n", "labels.csv:2: has no row"),
        ("row,label\n1,goood\n", "labels.csv:2: the label 'goood' is no number, and none of good"),
        ("row,label\n1,nan\n", "labels.csv:2: the label 'nan' is no number"),
        ("row,label\n1,inf\n", "labels.csv:2: the label 'inf' is above 1e+12 in size"),
        ("row,label\n1,-1e308\n", "labels.csv:2: the label '-1e308' is above 1e+12 in size"),
        ("row,label\n1,1\n1,1\n1,0\n", "labels.csv:4: row '1' has two labels"),
        ("row,label\n1,\n", "labels.csv: has no labels"),
        ("row,label\n1\n", "labels.csv:2: has 1 cell, and the header has 2"),
        ('{"row": 1, "label": 1}\n', "labels.csv: is JSON lines"),
    ],
)
def test_what_is_unclear_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_labels(str(path), "label", {"good": 1})
    assert message in str(error.value)


def test_a_word_without_a_number_is_kept_if_no_numbers_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"row": 0, "label": "PASS"}\n')
    found = read_labels(str(path)).of(result())
    assert found is not None
    assert (found.text, found.value) == ("PASS", None)


def test_a_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can be read only once"):
        read_labels("-")
