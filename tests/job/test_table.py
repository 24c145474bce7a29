"""Each key of the job file reaches the checked job."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from batchmix.job import CheckedJob, Model, file, read_job
from batchmix.job.table import JobTable, ModelEntry


@pytest.mark.parametrize(("table", "checked"), [(JobTable, CheckedJob), (ModelEntry, Model)])
def test_the_checked_value_has_each_key_of_the_table(
    table: type[msgspec.Struct], checked: type[msgspec.Struct]
) -> None:
    assert set(table.__struct_fields__) - {"model"} <= set(checked.__struct_fields__)


def test_a_key_that_the_job_lacks_is_not_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "JobTable", msgspec.defstruct("JobTable", [("extra", int, 1)], bases=(JobTable,)))
    with pytest.raises(TypeError, match="extra"):
        read_job(None, {"model": "m", "input": {"path": str(tmp_path / "rows.jsonl")}})
