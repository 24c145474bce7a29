"""Tables of any type, from the input file to answers, exports and scores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from batchmix.engine import reader
from batchmix.engine.run_status import RunStatus
from batchmix.evaluation.judge import JudgeContext
from batchmix.formats.arrow_cast import fit
from batchmix.formats.arrow_values import values
from batchmix.job import read_job
from batchmix.redact import Secrets
from batchmix.reports.report_page import write_report
from batchmix.scorers.texts import Exact
from batchmix.verdict.evaluate_run import evaluate_run, prepare_scorers
from tests.conftest import Bench
from tests.odd_tables import OddTables

ROWS = 12


def strict_json(text: str) -> Any:
    """Return the value that RFC 8259 can express."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def whole(path: Path) -> pa.Table:
    """Return the content of a file, by row group: pyarrow cannot read nested dictionaries of several at once."""
    with pq.ParquetFile(path) as file:
        return pa.concat_tables([file.read_row_group(number) for number in range(file.num_row_groups)])


def same_columns(found: pa.Table, given: pa.Table, names: list[str]) -> None:
    """Check that columns are unchanged, counting NaN as equal, by pyarrow's own rendering."""
    for name in names:
        one, other = (pa.concat_arrays(table.column(name).chunks) for table in (found, given))
        if "dictionary" in str(other.type):
            other = fit(other, one.type)
        if pa.types.is_null(other.type):
            assert one.null_count == len(other)
            continue
        assert one.type == other.type, name
        assert one.to_string(window=1000) == other.to_string(window=1000), name


def has_targets(column: pa.ChunkedArray) -> bool:
    """Return whether a column has a target. Without any, a job is refused."""
    targets = (target for chunk in column.chunks for target in values(chunk) if target is not None)
    return not all(map(Exact().is_empty, targets))


def went_through(bench: Bench, table: pa.Table) -> None:
    """Run a table, export the results, and compare them with the input."""
    names = table.column_names
    path = bench.root / "rows.parquet"
    pq.write_table(table, path, row_group_size=5)
    bench.settings["input"] = {"path": str(path), "prompt": " ".join(f"{{{{ {name}|tojson }}}}" for name in names)}
    bench.settings["output"]["shard_rows"] = 7
    scored = [name for name in names if has_targets(table.column(name))]
    bench.settings["eval"] = {"scorers": [{"kind": "exact", "target": name, "name": name} for name in scored]}
    bench.settings["eval"]["group_by"] = names
    assert bench.run().totals.ok == table.num_rows
    given = whole(path)
    same_columns(pq.read_table(bench.out / "data"), given, names)
    for ending in ("parquet", "jsonl", "csv"):
        assert reader.export(bench.out, bench.root / f"all.{ending}") == (table.num_rows, [])
    same_columns(pq.read_table(bench.root / "all.parquet"), given, names)
    lines = (bench.root / "all.jsonl").read_text().splitlines()
    rows = [strict_json(line) for line in lines]
    assert [row["row"] for row in rows] == list(range(table.num_rows))
    cells = pa_csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    parsing = pa_csv.ParseOptions(newlines_in_values=True)
    assert pa_csv.read_csv(bench.root / "all.csv", convert_options=cells, parse_options=parsing).num_rows == len(rows)
    job = read_job(None, bench.settings, {})
    judge_context = JudgeContext(job, Secrets(""), RunStatus())
    metrics = evaluate_run(bench.out, judge_context, prepare_scorers(job))
    assert {score.scorer for score in metrics.scores} == set(scored)
    write_report(bench.out, None)


@pytest.mark.parametrize("seed", range(3))
def test_odd_tables_survive_a_whole_run(seed: int, bench: Bench) -> None:
    """Each column has another random type, with values that Python, JSON or pandas lack."""
    went_through(bench, OddTables(seed).table(15, ROWS))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_more_odd_tables_survive_a_whole_run(seed: int, bench: Bench) -> None:
    went_through(bench, OddTables(seed).table(15, ROWS))


def test_nothing_needs_pandas(tmp_path: Path) -> None:
    """pyarrow imports it for values that are finer than Python's own."""
    table = {
        "at": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")),
        "took": pa.array([1, None], pa.duration("ns")),
        "inside": pa.array([{"ts": 1}, None], pa.struct([("ts", pa.timestamp("ns"))])),
    }
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    prompt = "{% if at is not none %}{{ at }} {{ took }} {{ inside.ts }}{% else %}none of {{ row }}{% endif %}"
    out = tmp_path / "run"
    run = ["run", "rows.parquet", "--model", "m", "--base-url", "rehearsal:", "--prompt", prompt, "--out", str(out)]
    score = ["--set", "eval.target=at", "--set", "eval.group_by=['took', 'inside']", "--set"]
    calls = [
        [*run, "--progress", "none", *score, "eval.scorers=[{kind = 'includes'}]"],
        *(["export", str(out), f"all.{ending}"] for ending in ("jsonl", "csv", "parquet")),
        ["report", str(out)],
    ]
    program = (
        "import json, sys\nclass Without:\n    def find_spec(self, name, *_):\n"
        "        if name == 'pandas': raise ImportError(name)\n"
        "sys.meta_path.insert(0, Without())\nfrom batchmix.cli import main\n"
        "for call in json.loads(sys.argv.pop()):\n    sys.argv[1:] = call\n"
        "    try: main()\n    except SystemExit as end: assert end.code in (0, 1), (call, end.code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(calls)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = (strict_json(line) for line in (tmp_path / "all.jsonl").read_text().splitlines())
    wanted = ("2023-11-14T22:13:20.123456789", "PT0.000000001S", {"ts": "1970-01-01T00:00:00.000000001"})
    assert (first["at"], first["took"], first["inside"]) == wanted
    assert (second["at"], second["took"], second["inside"]) == (None, None, None)
