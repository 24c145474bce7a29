from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.errors import InputChanged, InputError
from batchmix.load.digests import digest_text
from tests.load.conftest import all_requests, carried_rows, jsonl, make_job, open_rows, requests_of

ROWS = [{"prompt": f"p{i}", "n": i} for i in range(9)]


@pytest.mark.parametrize(
    "changed",
    [
        jsonl(ROWS).replace(b"p4", b"P4"),
        jsonl(ROWS).replace(b'"n": 4', b'"n":"4'),
        jsonl(ROWS).replace(b'"n": 4', b'"n":[]'),
        jsonl(ROWS)[:100],
        b"",
        b"\n" * len(jsonl(ROWS)),
        jsonl([{"prompt": "one more"}]) + jsonl(ROWS),
        None,
    ],
)
def test_a_change_during_the_run_is_detected(changed: bytes | None, rows_file: Any, spool: Path) -> None:
    """It is detected at the latest at the end of the shard's carried columns."""
    path = rows_file(ROWS)
    dataset = open_rows(make_job(path), spool)
    path.unlink() if changed is None else path.write_bytes(changed)
    with pytest.raises(InputChanged, match="the answers so far are kept; give the same command again"):
        list(dataset.carried(1))


@pytest.mark.parametrize("when", ["before", "meanwhile", "touched", "never"])
@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_not_hashed_again(
    when: str, rows_file: Any, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its status says that it is unchanged; a change is detected all the same."""
    path = rows_file(ROWS)
    dataset = open_rows(make_job(path), spool)
    hashed: list[Any] = []
    monkeypatch.setattr("batchmix.load.jsonl_rows._CARRIED_ROWS", 1)
    monkeypatch.setattr(
        "batchmix.load.jsonl_rows.digest_text", lambda digest: hashed.append(digest) or digest_text(digest)
    )
    batches = dataset.carried(0)
    if when == "meanwhile":
        next(batches)
    if when in ("before", "meanwhile"):
        path.write_bytes(jsonl(ROWS).replace(b"p2", b"P2"))
        with pytest.raises(InputChanged):
            list(batches)
    else:
        if when == "touched":
            path.touch()
        assert len(list(batches)) == 3
    assert bool(hashed) == (when in ("before", "touched"))


def test_a_row_that_can_no_longer_be_read_is_a_change(rows_file: Any, spool: Path) -> None:
    """It is neither a bad row nor a crash."""
    path = rows_file(ROWS)
    job = make_job(path)
    dataset = open_rows(job, spool)
    path.write_bytes(jsonl(ROWS).replace(b'{"prompt": "p4"', b'{"prompt": 1234'))
    with pytest.raises(InputChanged):
        requests_of(dataset, job, 1)
    assert len(requests_of(dataset, job, 0)) == 3
    path.write_bytes(jsonl(ROWS).replace(b'{"prompt": "p4"', b'{]prompt": "p4"'))
    with pytest.raises(InputChanged):
        requests_of(dataset, job, 1)
    path.unlink()
    with pytest.raises(InputChanged):
        requests_of(dataset, job, 0)


@pytest.mark.parametrize("later", [[], [{"prompt": "one"}], [{"prompt": "short"}] * 400])
def test_more_or_fewer_rows_in_a_shard_are_a_change(later: list[Any], rows_file: Any, spool: Path) -> None:
    """No row beyond the shard's range is sent."""
    rows = [{"prompt": "x" * 3000}] * 6
    job = make_job(rows_file(rows))
    dataset = open_rows(job, spool)
    rows_file([*rows[:3], *later])
    rows_sent: list[int] = []
    batches = dataset.requests(1, job.models[0])
    with pytest.raises(InputChanged):
        rows_sent.extend(request.row for batch in batches for request in batch)
    assert set(rows_sent) <= {3, 4, 5}


@pytest.mark.parametrize("how", ["values", "rows", "gone", "rubbish"])
def test_a_changed_parquet_file_is_detected(how: str, tmp_path: Path, spool: Path) -> None:
    """A rewritten file with the same rows is accepted."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    job = make_job(path)
    dataset = open_rows(job, spool)
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    assert [row["n"] for row in carried_rows(dataset)] == list(range(9))
    if how == "values":
        pq.write_table(pa.Table.from_pylist([{**row, "n": 7} for row in ROWS]), path)
    elif how == "rows":
        pq.write_table(pa.Table.from_pylist(ROWS[:2]), path)
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"PAR1")
    with pytest.raises(InputChanged):
        list(dataset.carried(0))


def test_a_shard_may_span_files(tmp_path: Path, spool: Path) -> None:
    """It may begin in the middle of one."""
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_bytes(jsonl(ROWS[number * 3 : number * 3 + 3]))
    job = make_job(tmp_path)
    dataset = open_rows(job, spool, shard_rows=4)
    assert [[r.row for r in requests_of(dataset, job, s)] for s in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert [row["n"] for row in carried_rows(dataset)] == list(range(9))


def test_no_more_than_the_first_bad_rows_are_listed(rows_file: Any, spool: Path) -> None:
    """Twenty are listed, with a hint that there may be more; a single one is in the singular."""
    rows = [{"prompt": "ok"}, *({"prompt": i} for i in range(50))]
    with pytest.raises(InputError) as caught:
        open_rows(make_job(rows_file(rows)), spool)
    lines = str(caught.value).splitlines()
    assert lines[0] == "20 bad rows, and there may be more; nothing was sent:"
    assert [line.partition("rows.jsonl:")[2].partition(":")[0] for line in lines[1:21]] == [
        str(number) for number in range(2, 22)
    ]
    assert "--bad-rows reject" in lines[21]


def test_the_limit_ends_the_scan(rows_file: Any, spool: Path) -> None:
    """Rows after it are not read."""
    path = rows_file(jsonl(ROWS[:5]) + b"not json\n")
    seen: list[int] = []
    job = make_job(path)
    dataset = open_rows(job, spool, limit=5, on_progress=seen.append)
    assert [r.row for r in all_requests(dataset, job)] == [0, 1, 2, 3, 4]
    assert seen == [5]


def test_passes_from_several_threads_do_not_disturb_each_other(tmp_path: Path, spool: Path) -> None:
    """Each has its own place in the file."""
    rows = [{"prompt": str(i)} for i in range(3000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_bytes(jsonl(rows))
    for name in ("rows.parquet", "rows.jsonl"):
        job = make_job(tmp_path / name)
        dataset = open_rows(job, spool, shard_rows=500)
        found: list[Any] = []

        def reads(job: Any = job, dataset: Any = dataset, found: Any = found) -> None:
            found.append([r.row for r in all_requests(dataset, job)])

        def carries(dataset: Any = dataset, found: Any = found) -> None:
            found.append([int(row["custom_id"]) for row in carried_rows(dataset)])

        threads = [threading.Thread(target=target) for target in (reads, reads, reads, carries, carries)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [list(range(3000))] * 5
