from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batchmix.errors import InputError
from tests.load.conftest import carried_rows, jsonl, make_job, open_rows


@pytest.mark.parametrize(
    ("given", "kind", "carried"),
    [
        ([1, None, 2**63 - 1], pa.int64(), [1, None, 2**63 - 1]),
        ([1, 2.5, None], pa.float64(), [1.0, 2.5, None]),
        ([float("inf"), 1], pa.float64(), [float("inf"), 1.0]),
        ([2**53, 0.5], pa.float64(), [2.0**53, 0.5]),
        ([2**53 + 1, 0.5], pa.string(), ["9007199254740993", "0.5"]),
        ([1523456789012345679, float("nan")], pa.int64(), [1523456789012345679, None]),
        ([float("nan"), "a"], pa.string(), [None, "a"]),
        ([float("nan"), True], pa.bool_(), [None, True]),
        ([float("nan"), {"a": float("nan")}], pa.string(), [None, '{"a":null}']),
        ([float("nan")], pa.string(), [None]),
        ([True, None], pa.bool_(), [True, None]),
        (["a", None, "é\ud800"], pa.string(), ["a", None, "é\ufffd"]),
        ([None, None], pa.string(), [None, None]),
        ([1, 2**63, None], pa.string(), ["1", "9223372036854775808", None]),
        ([1, True], pa.string(), ["1", "true"]),
        ([1, "a"], pa.string(), ["1", '"a"']),
        ([{"a": [1, None]}, None], pa.string(), ['{"a":[1,null]}', None]),
        ([[float("nan")], "\ud800"], pa.string(), ["[null]", '"\\ud800"']),
    ],
)
def test_column_types_follow_from_the_whole_scan(
    given: Any, kind: Any, carried: Any, rows_file: Any, spool: Path
) -> None:
    """Also when the deciding rows are in another shard."""
    rows = [{"prompt": "p", "c": value} for value in given] + [{"prompt": "p"}]
    dataset = open_rows(make_job(rows_file(rows), columns=["c"]), spool, shard_rows=1)
    assert dataset.carried_schema == pa.schema([("custom_id", pa.string()), ("c", kind)])
    assert [row["c"] for row in carried_rows(dataset)] == [*carried, None]


def test_all_columns_but_the_id_are_carried(rows_file: Any, spool: Path) -> None:
    """In order of appearance."""
    path = rows_file([{"b": 1, "id": "x", "prompt": "p"}, {"a": 2, "prompt": "q"}])
    dataset = open_rows(make_job(path), spool)
    assert dataset.carried_schema.names == ["custom_id", "b", "prompt", "a"]
    assert carried_rows(dataset) == [
        {"custom_id": "x", "b": 1, "prompt": "p", "a": None},
        {"custom_id": "1", "b": None, "prompt": "q", "a": 2},
    ]


def test_the_id_is_text_whatever_it_was(rows_file: Any, spool: Path) -> None:
    """A null or missing id becomes the row number."""
    values = ["a", 7, True, None, 1.5, [1], 2**70, 2.0, float("nan")]
    path = rows_file([{"prompt": "p", "key": v, "id": "no"} for v in values] + [{"prompt": "p"}])
    dataset = open_rows(make_job(path, id="key", columns=[]), spool)
    ids = ["a", "7", "true", "3", "1.5", "[1]", str(2**70), "2", "8", "9"]
    assert [row["custom_id"] for row in carried_rows(dataset)] == ids


def test_custom_id_takes_precedence_over_id(rows_file: Any, spool: Path) -> None:
    """Then `id` is carried as a column."""
    dataset = open_rows(make_job(rows_file([{"id": 1, "custom_id": "c", "prompt": "p"}])), spool)
    assert carried_rows(dataset) == [{"custom_id": "c", "id": 1, "prompt": "p"}]


def test_batch_lines_carry_only_columns_outside_the_batch_keys(rows_file: Any, spool: Path) -> None:
    """The Batch keys themselves are sent."""
    line = {"custom_id": "c", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m"}, "topic": "t"}
    assert carried_rows(open_rows(make_job(rows_file([line])), spool)) == [{"custom_id": "c", "topic": "t"}]


def test_the_output_of_a_run_as_input_loses_its_result_columns(rows_file: Any, spool: Path) -> None:
    """It is recognised by its columns."""
    row = dict.fromkeys(["row", "model", "sample", "status", "response", "request_hash"], 1)
    path = rows_file([{**row, "custom_id": "c", "prompt": "p"}])
    dataset = open_rows(make_job(path), spool, reserved=frozenset({*row, "custom_id"}))
    assert carried_rows(dataset) == [{"custom_id": "c", "prompt": "p"}]


def test_columns_are_chosen_and_renamed(rows_file: Any, spool: Path) -> None:
    """In the job's order."""
    path = rows_file([{"prompt": "p", "status": "s", "n": 1}])
    job = make_job(path, columns=["n", {"from": "status", "to": "input_status"}])
    dataset = open_rows(job, spool, reserved=frozenset({"status"}))
    assert carried_rows(dataset) == [{"custom_id": "0", "n": 1, "input_status": "s"}]


@pytest.mark.parametrize(
    ("input_settings", "reason"),
    [
        ({"columns": ["countri"]}, "no column 'countri'; did you mean 'country'\\? There are: 'prompt', 'country'"),
        ({"id": "STATUS"}, "did you mean 'status'"),
        ({"id": "key"}, "input.id: there is no column 'key'; there are: "),
        ({}, r'would be named \'status\' in the output.*columns = \[\{from = "status", to = "input_status"\}\]'),
        (
            {"columns": [{"from": "country", "to": "status"}, {"from": "country", "to": "custom_id"}]},
            r"columns 'country', 'country' would be named 'status', 'custom_id' in the output, which are result columns; rename"
            r" them .*to = \"input_status\"}, {from = \"country\", to = \"input_custom_id\"}\].*, or leave them out",
        ),
        ({"columns": [{"from": "country", "to": "custom_id"}]}, "'custom_id' in the output, which is a result column"),
        ({"columns": ["country", {"from": "prompt", "to": "country"}]}, "two columns would be named 'country'"),
    ],
)
def test_columns_that_cannot_be_carried_are_refused(
    input_settings: Any, reason: str, rows_file: Any, spool: Path
) -> None:
    """The message says what to do."""
    path = rows_file([{"prompt": "p", "country": "x", "status": "s"}])
    with pytest.raises(InputError, match=reason):
        open_rows(make_job(path, **input_settings), spool, reserved=frozenset({"status"}))


def test_rejected_rows_carry_their_readable_columns(tmp_path: Path, spool: Path) -> None:
    """A line that is not JSON has only its number."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(jsonl([{"id": "a", "prompt": 1}]) + b"{]\n" + jsonl([{"id": "c", "prompt": "p"}]))
    dataset = open_rows(make_job(path), spool, reject_bad_rows=True)
    assert [row["custom_id"] for row in carried_rows(dataset)] == ["a", "1", "c"]
    assert [row["prompt"] for row in carried_rows(dataset)] == ["1", None, '"p"']
