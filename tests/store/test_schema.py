"""Parts of version 1 can be read everywhere, together with those of the newest version."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from batchmix.engine import reader
from batchmix.job import Price
from batchmix.prices.cost import cost_usd
from batchmix.records import Usage
from batchmix.store.result_columns import COLUMNS, ResultColumn, check_columns
from batchmix.store.schema import OF_RUN, VERSION
from tests.conftest import Bench
from tests.gateway import Gateway

WRITTEN = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "total_tokens": 1100,
    "prompt_tokens_details": {"cached_tokens": 200, "cache_write_tokens": 500},
}


def as_version_1(part: Path, renamed: dict[str, str] | None = None) -> None:
    """Rewrite a part as version 1: without the newer columns and the newer fields of the footer."""
    table = pq.read_table(part)
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"batchmix.part"}
    table = table.drop_columns(["cache_write_tokens", *OF_RUN]).replace_schema_metadata(
        kept | {b"batchmix.schema": b"1"}
    )
    names = [(renamed or {}).get(name, name) for name in table.column_names]
    table = table.rename_columns(names).replace_schema_metadata(table.schema.metadata)
    footer = json.loads(pq.read_metadata(part).metadata[b"batchmix.part"])
    del footer["totals"]["cache_write_tokens"]
    for cost in footer["totals"]["costs"].values():
        for name in ("untold", "unpriced", "lost"):
            del cost[name]
    with pq.ParquetWriter(part, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({b"batchmix.part": json.dumps(footer).encode()})


@pytest.fixture
def caching(bench: Bench, gateway: Gateway) -> Bench:
    gateway.usage = WRITTEN
    bench.settings["provider"] = {"base_url": f"{gateway.url}/v1", "api_key_env": ""}
    bench.settings["prices"] = {"m": {"input": 1, "output": 2, "cache_read": 0.1, "cache_write": 10}}
    return bench


def test_cache_writes_are_priced(caching: Bench) -> None:
    caching.write(2)
    view = caching.run()
    row = caching.rows()[0]
    assert (row["cached_tokens"], row["cache_write_tokens"]) == (200, 500)
    assert row["cost_usd"] == pytest.approx((300 * 1 + 200 * 0.1 + 500 * 10 + 100 * 2) / 1e6)
    assert view.summary()["cache_write_tokens"] == 1000
    assert cost_usd(Price(1, 2), Usage(1000, 100, 1100, 200, None, 500)) == pytest.approx(1200 / 1e6)
    an_hour = Usage(1000, 100, 1100, 200, None, 500, 300)
    assert cost_usd(Price(1, 2), an_hour) == pytest.approx(1200 / 1e6)
    assert cost_usd(Price(1, 2, cache_write=1.25), an_hour) == pytest.approx((500 + 200 * 1.25 + 300 * 2 + 200) / 1e6)


def test_a_run_resumes_over_parts_of_version_1(caching: Bench) -> None:
    """They stay unchanged while no row is open; once one part is written, all get the same schema."""
    caching.write(25)
    caching.run()
    parts = sorted((caching.out / "data").iterdir())
    for part in parts:
        as_version_1(part)
    before = parts[0].read_bytes()
    assert reader.look(caching.out).totals.ok == 25
    assert caching.run().totals.ok == 25
    assert parts[0].read_bytes() == before
    caching.write(3, first=25)
    view = caching.run()
    assert (view.totals.ok, view.totals.cached_tokens, view.totals.cache_write_tokens) == (28, 5600, 1500)
    assert view.totals.cost_usd == pytest.approx(28 * (300 * 1 + 200 * 0.1 + 500 * 10 + 100 * 2) / 1e6)
    assert {pq.read_schema(part).metadata[b"batchmix.schema"] for part in parts} == {VERSION.encode()}
    assert pa.concat_tables([pq.read_table(part) for part in parts])["cache_write_tokens"].null_count == 25
    for name in ("all.parquet", "all.jsonl", "all.csv"):
        assert reader.export(caching.out, caching.root / name)[0] == 28
    exported = pq.read_table(caching.root / "all.parquet")
    assert exported.column_names == pq.read_schema(parts[2]).names
    assert exported["cache_write_tokens"].to_pylist() == [None] * 25 + [500] * 3
    caching.settings |= {"output": {"path": str(caching.root / "other")}, "reuse": {"from": [str(caching.out)]}}
    assert caching.run().totals.reused == 28


NEXT_VERSION = """
import json, sys
from pathlib import Path
import pyarrow as pa
from batchmix.records import Usage
from batchmix.store import result_columns

added_in = 1 + max(column.added_in for column in result_columns.COLUMNS)
result_columns.COLUMNS.append(result_columns.ResultColumn("hour_tokens", pa.int64(), Usage, added_in))

from batchmix.engine import reader
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.job import read_job
from batchmix.redact import Secrets

settings, before, after = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
run = Path(settings["output"]["path"])
reader.export(run, before)
view = run_job(read_job(None, settings, {}), Secrets(""), Options(), RunStatus())
assert (view.totals.ok, view.totals.finished) == (24, 25), view.totals
reader.export(run, after)
"""
"""A start of a version with one more line in its table of columns, and exports before and after it."""


def test_a_new_column_needs_one_line_in_the_table_of_columns(caching: Bench, gateway: Gateway) -> None:
    """It is null in older parts and in failures, and filled in new answers."""
    details = {"cached_tokens": 200, "cache_write_tokens": 500, "ephemeral_1h_input_tokens": 300}
    gateway.usage = WRITTEN | {"prompt_tokens_details": details}
    caching.write(15)
    caching.run()
    parts = caching.out / "data"
    old = [pq.read_schema(part) for part in sorted(parts.iterdir())]
    assert [schema.metadata[b"batchmix.schema"] for schema in old] == [VERSION.encode()] * 2
    caching.write(10, first=15)
    gateway.raw = [b'{"error": {"message": "no", "code": "content_filter"}}']
    exports = [caching.root / "before.parquet", caching.root / "after.parquet"]
    subprocess.run([sys.executable, "-c", NEXT_VERSION, json.dumps(caching.settings), *map(str, exports)], check=True)

    before, after = map(pq.read_table, exports)
    assert before.column_names == after.column_names == [*old[0].names, "hour_tokens"]
    assert before["hour_tokens"].to_pylist() == [None] * 15
    assert before.drop_columns(["hour_tokens"]).to_pylist() == after.drop_columns(["hour_tokens"]).to_pylist()[:15]
    counts = dict(zip(after["status"].to_pylist()[15:], after["hour_tokens"].to_pylist()[15:], strict=True))
    assert counts == {"ok": 300, "rejected": None}
    assert after["hour_tokens"].null_count == 16
    new = {pq.read_schema(part).metadata[b"batchmix.schema"] for part in parts.iterdir()}
    assert new == {str(int(VERSION) + 1).encode()}


@pytest.mark.parametrize("source", [None, Usage])
def test_a_column_that_no_row_fills_is_found_before_anything_is_sent(source: type[Usage] | None) -> None:
    """The modules that fill the rows call the check when they are imported."""
    filled = [(column.source, column.name) for column in COLUMNS]
    check_columns(COLUMNS, [*filled, (Usage, "without_a_column")])
    with pytest.raises(TypeError, match=r"not filled: \['brand_new'\]"):
        check_columns([*COLUMNS, ResultColumn("brand_new", pa.string(), source)], filled)
    with pytest.raises(TypeError, match=r"not in the table: \['brand_new'\]"):
        check_columns(COLUMNS, [*filled, (None, "brand_new")])
