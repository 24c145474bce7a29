from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.errors import InputError
from batchmix.load.sources import FORMATS, InputFormat
from batchmix.records import RUN_FOLDER_NAMES
from tests.load.conftest import jsonl, make_job, open_rows, prompts_of


def _refused(path: Path | str, spool: Path, **input_settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        open_rows(make_job(path, settings={"name": "run"}, **input_settings), spool)
    return str(caught.value)


def test_a_folder_is_read_in_name_order_and_other_files_are_left_out(tmp_path: Path, spool: Path) -> None:
    """Only files with a supported suffix; no hidden files and no subfolders."""
    for name in ("b.jsonl", "a.ndjson", ".hidden.jsonl", "notes.txt", "._b.jsonl"):
        (tmp_path / name).write_bytes(jsonl([{"prompt": name}]))
    (tmp_path / "below.jsonl").mkdir()
    job = make_job(tmp_path)
    assert prompts_of(open_rows(job, spool), job) == ["a.ndjson", "b.jsonl"]


def test_a_glob_is_read_in_name_order(tmp_path: Path, spool: Path) -> None:
    """Only matching files are read."""
    for name in ("q2.jsonl", "q1.jsonl", "other.jsonl"):
        (tmp_path / name).write_bytes(jsonl([{"prompt": name}]))
    job = make_job(tmp_path / "q*.jsonl")
    assert prompts_of(open_rows(job, spool), job) == ["q1.jsonl", "q2.jsonl"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path, spool: Path) -> None:
    """An existing file takes precedence over a pattern."""
    (tmp_path / "[a].jsonl").write_bytes(jsonl([{"prompt": "x"}]))
    job = make_job(tmp_path / "[a].jsonl")
    assert prompts_of(open_rows(job, spool), job) == ["x"]


def test_files_that_cannot_be_the_input_are_refused_with_a_message(tmp_path: Path, spool: Path) -> None:
    """The message names the path and what to do."""
    (tmp_path / "empty.jsonl").write_bytes(b"\n\n")
    (tmp_path / "zero.jsonl").write_bytes(b"")
    (tmp_path / "data.txt").write_text("a,b")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really PAR1")
    (tmp_path / "folder").mkdir()
    assert "missing.jsonl: no such file" in _refused(tmp_path / "missing.jsonl", spool)
    assert "no such file; did you mean" in _refused(tmp_path / "empty.json", spool)
    assert "empty.jsonl: there are no rows in it" in _refused(tmp_path / "empty.jsonl", spool)
    assert "zero.jsonl: there are no rows in it" in _refused(tmp_path / "zero.jsonl", spool)
    assert "data.txt: unsupported file type; batchmix reads .jsonl" in _refused(tmp_path / "data.txt", spool)
    assert "broken.parquet: can't be read as Parquet" in _refused(tmp_path / "broken.parquet", spool)
    assert "folder: nothing to read in this folder" in _refused(tmp_path / "folder", spool)
    assert "x*.jsonl: no file matches" in _refused(tmp_path / "x*.jsonl", spool)
    assert "zero.jsonl/rows.jsonl: no such file" in _refused(tmp_path / "zero.jsonl" / "rows.jsonl", spool)
    assert not spool.exists()


def test_a_run_folder_as_input_is_refused_with_the_path_of_its_data(tmp_path: Path, spool: Path) -> None:
    """The parts are one level below."""
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"prompt": ["x"]}), tmp_path / "data" / "part-00000.parquet")
    for name in ("run.json", "ledger.jsonl"):
        (tmp_path / name).write_text("{}\n")
    assert "did you mean" in (message := _refused(tmp_path, spool))
    assert message.endswith("data?")


def test_a_format_with_the_suffix_of_a_run_folders_own_files_does_not_read_them(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = InputFormat(name="every", suffixes=(".json", ".html", ""), reader=FORMATS[0].reader)
    monkeypatch.setattr("batchmix.load.sources.FORMATS", (*FORMATS, every))
    for name in RUN_FOLDER_NAMES:
        (tmp_path / name).write_text("{}\n")
    assert "nothing to read in this folder" in _refused(tmp_path, spool)


def test_jsonl_and_parquet_are_not_mixed(tmp_path: Path, spool: Path) -> None:
    """The message names both files."""
    (tmp_path / "a.jsonl").write_bytes(jsonl([{"prompt": "x"}]))
    pq.write_table(pa.table({"prompt": ["x"]}), tmp_path / "b.parquet")
    message = _refused(tmp_path, spool)
    assert "a.jsonl" in message
    assert "b.parquet" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_not_called_missing(tmp_path: Path, spool: Path) -> None:
    """Neither the file nor a folder above it."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{}")
    path.chmod(0)
    assert "permission denied" in _refused(path, spool)


def test_names_cannot_act_on_the_terminal(tmp_path: Path, spool: Path) -> None:
    """Control characters of paths and columns are shown escaped."""
    path = tmp_path / "a\x1b[31m.jsonl"
    path.write_bytes(jsonl([{"col\x1b[2J\n": 1}]))
    message = _refused(path, spool)
    assert "\x1b" not in message
    assert "a\\x1b[31m.jsonl:1" in message
    assert "'col\\x1b[2J\\n'" in message
