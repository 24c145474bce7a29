"""A process for a query of DuckDB: `query_process FD < query` writes its result to the descriptor as Parquet."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.errors import InputError
from batchmix.formats.arrow_cast import fitted
from batchmix.formats.parquet_schema import parquet_schema

_SETTINGS = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}
"""Nothing is installed or loaded, so that a query reads local files only, and no variables of this process."""
_BATCH_ROWS = 2048


def main() -> int:
    """Run the query of stdin. Print what is wrong with it, and return 1."""
    try:
        import duckdb
    except ImportError:
        print("needs DuckDB: pip install 'batchmix[duckdb]'")  # noqa: T201 - the other process reads it
        return 1
    try:
        with tempfile.TemporaryDirectory() as folder:  # for what exceeds the memory; by default the job's folder has it
            _write(_reader(duckdb, sys.stdin.buffer.read().decode(), folder), int(sys.argv[1]))
    except (duckdb.Error, InputError, pa.ArrowException, OSError) as error:
        text = re.split(r"\n+(?:Please try|LINE \d)", str(error))[0]
        hint = "; only local files can be queried" if "requires the extension" in text else ""
        print(f"{text}{hint}")  # noqa: T201
        return 1
    return 0


def _reader(duckdb: Any, query: str, folder: str) -> pa.RecordBatchReader:
    connection = duckdb.connect(":memory:", config={**_SETTINGS, "temp_directory": folder})
    connection.execute("SET lock_configuration = true")
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise InputError("must be one SELECT statement; prepare anything else in DuckDB before, and query the files")
    relation = connection.sql(query)
    # Earlier versions have only the second one.
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    return read(_BATCH_ROWS)


def _write(reader: pa.RecordBatchReader, descriptor: int) -> None:
    schema = parquet_schema(reader.schema)
    with os.fdopen(descriptor, "wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in reader:
            if batch.num_rows:
                writer.write_batch(fitted(batch, schema))


if __name__ == "__main__":
    sys.exit(main())
