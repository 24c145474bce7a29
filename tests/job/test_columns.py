from __future__ import annotations

from typing import Any

import pytest

from batchmix.errors import JobError
from batchmix.job import Column, merge_settings, parse_setting, read_job


@pytest.mark.parametrize(
    ("given", "type_"),
    [
        ("double", "double"), ("FLOAT64", "double"), ("varchar", "string"), ("BIGINT", "int64"), ("boolean", "bool"),
        ("timestamp", "timestamp"), ("timestamp[ns]", "timestamp[ns]"), ("Timestamp[us, tz=UTC]", "timestamp[us, UTC]"),
        ("timestamp with time zone", "timestamptz"), ("decimal(10,2)", "decimal(10,2)"), ("numeric(5)", "decimal(5,0)"),
        (" JSON ", "json"),
    ],
)  # fmt: skip
def test_types_have_their_common_names(given: str, type_: str) -> None:
    """A checked job has one name for each type; a column keeps its own name if it gets no other."""
    setting = parse_setting(f'input.columns=["a", {{from = "b", type = "{given}"}}]')
    job = read_job(None, merge_settings([{"model": "m", "input": {"path": "x.jsonl"}}, setting]), {})
    assert job.input.columns == ("a", Column("b", "b", type_))


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ({"type": "doubel"}, "'doubel' is not a type; did you mean double\\? Types are string, int64, double"),
        ({"type": "geometry"}, "'geometry' is not a type"),
        ({"type": "decimal"}, "must give the number of digits, such as decimal"),
        ({"type": "decimal(39,2)"}, "a decimal has 1 to 38 digits"),
        ({"type": "decimal(2,3)"}, "a decimal has 1 to 38 digits"),
        ({"typ": "double"}, "unknown setting input.columns.typ: did you mean input.columns.type\\?"),
        ({"type": 1}, "input.columns.type: expected text, got a whole number"),
    ],
)
def test_an_unknown_type_is_refused_with_the_closest(column: Any, reason: str) -> None:
    with pytest.raises(JobError, match=reason):
        read_job(None, {"model": "m", "input": {"path": "x.jsonl", "columns": [{"from": "a", **column}]}}, {})


def test_a_column_has_one_type_under_all_its_names() -> None:
    """All its values must have that type."""
    columns = ["a", {"from": "a", "to": "b", "type": "double"}]
    with pytest.raises(JobError, match=r"input.columns: 'a' is given two types"):
        read_job(None, {"model": "m", "input": {"path": "x.jsonl", "columns": columns}}, {})


def test_the_columns_that_a_run_stores_keep_their_form() -> None:
    """If no type is configured."""
    columns = ["a", {"from": "b", "to": "c"}]
    job = read_job(None, {"model": "m", "input": {"path": "x.jsonl", "columns": columns}}, {})
    assert list(job.public()["input"]["columns"]) == columns
