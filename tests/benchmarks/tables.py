"""Tables in memory through `bm.run` and joined back, and the memory of a generator: python -m tests.benchmarks.tables.

Each measurement is a process of its own on core 1; nginx answers on core 0. First a table of 100,000 rows of each library:
the seconds to write it for the run, to run, and to join, and the memory above that of the table itself. Each program
checks that what came back is the table with its kind, types, order and index. Then a generator of a million rows against
one of ten thousand, run, joined and read result by result, with the same rows as a file on the command line beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import servers
from tests.benchmarks.memory import peak_mb, write
from tests.benchmarks.servers import Server, nginx
from tests.benchmarks.speed import on_core
from tests.killing import command

KINDS = ("pandas", "polars", "duckdb", "datasets", "arrow", "dicts")
WORKERS = 64
BOUND_MB = 60
TABLE = """
import datetime, json, resource, sys, time
from pathlib import Path
import pyarrow as pa
kind, url, folder, rows = *sys.argv[1:4], int(sys.argv[4])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
numbers = range(rows)
made = pa.table({
    "text": pa.array([f"question {number}" for number in numbers]),
    "label": pa.array([("good", "bad", "odd")[number % 3] for number in numbers]).dictionary_encode(),
    "score": pa.array([number / 7 for number in numbers]),
    "seen": pa.array([number * 10**9 for number in numbers], pa.timestamp("us", "UTC")),
    "count": pa.array([None if number % 5 == 0 else number for number in numbers], pa.int32()),
    "tags": pa.array([["a", str(number % 9)] for number in numbers]),
})
if kind == "pandas":
    import pandas
    table = made.to_pandas(types_mapper={pa.int32(): pandas.Int32Dtype()}.get)
    table.index = pandas.MultiIndex.from_arrays([[number % 10 for number in numbers], list(reversed(numbers))])
elif kind == "polars":
    import polars
    table = polars.from_arrow(made)
elif kind == "duckdb":
    import duckdb
    table = duckdb.connect().from_arrow(made)
elif kind == "datasets":
    import datasets
    flat = made.set_column(1, "label", made["label"].cast(pa.string()))
    table = datasets.Dataset(flat).select(list(reversed(numbers)))
else:
    table = made.to_pylist() if kind == "dicts" else made
import batchmix as bm
from batchmix.tables.memory_rows import memory_rows
memory_rows([{}], Path(folder), "prompt").file.close()
before, began = peak(), time.perf_counter()
memory_rows(table, Path(folder), "prompt").file.close()
written = time.perf_counter()
run = bm.run(
    table, "Say {{ text }}", model="m", base_url=url, out=f"{folder}/{kind}", concurrency=64,
    provider={"api_key_env": ""}
)
ran = time.perf_counter()
back = run.join(table, {"answer": "response", "tokens": "total_tokens"})
joined, after = time.perf_counter(), peak()
assert type(back) is type(table)
if kind == "pandas":
    pandas.testing.assert_frame_equal(back[table.columns], table)
    assert str(back["tokens"].dtype) == "Int64" and back["answer"].notna().all()
elif kind == "polars":
    assert back.drop("answer", "tokens").equals(table) and back["answer"].null_count() == 0
elif kind == "duckdb":
    assert back.types[:-2] == table.types
    assert back.filter("answer is null").count("*").fetchall() == [(0,)]
    assert back.project("text").fetchall() == table.project("text").fetchall()
elif kind == "datasets":
    assert back["text"][:] == table["text"][:] and None not in back["answer"][:]
elif kind == "arrow":
    assert back.drop(["answer", "tokens"]).equals(table) and back["answer"].null_count == 0
else:
    assert [{name: row[name] for name in made.schema.names} for row in back] == table
print(json.dumps([written - began, ran - written, joined - ran, before, after]))
"""
GENERATOR = """
import sys
import batchmix as bm
url, out, rows = *sys.argv[1:3], int(sys.argv[3])
questions = lambda: ({"id": number, "text": f"question {number}"} for number in range(rows))
run = bm.run(
    questions(), "Say {{ text }}", model="m", base_url=url, out=out, concurrency=64, provider={"api_key_env": ""}
)
assert sum(row["id"] == number and row["answer"] is not None
           for number, row in enumerate(run.join(questions(), {"answer": "response"}))) == rows
assert sum(result.ok for result in run) == rows
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the generator")
    parser.add_argument("--table-rows", type=int, default=100_000)
    args = parser.parse_args()
    servers.check()
    with tempfile.TemporaryDirectory() as folder, nginx() as server:
        print(f"{args.table_rows:,} rows   written     run  joined     MB more than before")
        for kind in KINDS:
            print(table_line(server, Path(folder), kind, args.table_rows), flush=True)
        print(f"\n{'rows':>10}  bm.run of a generator  batchmix run of a file")
        little = generator_mb(server, Path(folder), 10_000)
        much = generator_mb(server, Path(folder), args.rows)
        more = [after - before for before, after in zip(little, much, strict=True)]
        print(f"{'more':>10}  {more[0]:18.0f} MB  {more[1]:19.0f} MB  (≤ {BOUND_MB} MB)")
    sys.exit(more[0] > BOUND_MB)


def table_line(server: Server, folder: Path, kind: str, rows: int) -> str:
    """Return the measurements of one kind of table."""
    call = [*on_core(), sys.executable, "-c", TABLE, kind, server.url, str(folder), str(rows)]
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, cwd=folder)
    written, ran, joined, before, after = json.loads(done.stdout)
    shutil.rmtree(folder / kind)
    return f"{kind:14}  {written:6.2f} s {ran:5.1f} s {joined:5.2f} s  {after - before:6.0f} MB"


def generator_mb(server: Server, folder: Path, rows: int) -> tuple[float, float]:
    """Return the peak memory of a generator's run, and that of the same rows in a file on the command line."""
    out, source = folder / "out", folder / "rows.jsonl"
    from_python = peak_mb([sys.executable, "-c", GENERATOR, server.url, str(out), str(rows)], out)
    shutil.rmtree(out)
    write(source, rows)
    from_shell = peak_mb(command(server.url, source, out, "--concurrency", str(WORKERS)), out)
    shutil.rmtree(out)
    print(f"{rows:10,}  {from_python:18.0f} MB  {from_shell:19.0f} MB", flush=True)
    return from_python, from_shell


if __name__ == "__main__":
    main()
