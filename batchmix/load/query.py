"""Runs `input.query`, and has its result as a Parquet file to copy into the run folder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from batchmix.errors import InputError, disk_error
from batchmix.formats.display import clean
from batchmix.job import QUERY


@contextlib.contextmanager
def query_result(path: str, spool: Path) -> Iterator[BinaryIO]:
    """Yield the result of the query in an input's path, as Parquet in a temporary file without a name.

    DuckDB looks for a relative name in the working directory first, whatever its `file_search_path` is. So the query
    runs in a process whose working directory is the folder in which names start. Raises `InputError`.
    """
    folder, query = msgspec.json.decode(path.removeprefix(QUERY), type=tuple[str, str])
    room = next(parent for parent in spool.absolute().parents if parent.is_dir())
    try:
        file = tempfile.TemporaryFile(dir=room)  # noqa: SIM115 - closed below
    except OSError as error:
        raise disk_error(error, room) from error
    with file:
        try:
            done = subprocess.run(  # noqa: S603 - -P keeps modules in that folder from being imported
                [sys.executable, "-P", "-m", "batchmix.load.query_process", str(file.fileno())],
                input=query.encode(),
                cwd=folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
                pass_fds=(file.fileno(),),
                capture_output=True,
                check=False,
            )
        except OSError as error:
            raise InputError(
                f"input.query: can't run in {clean(folder)}: {clean(error.strerror or str(error))}"
            ) from error
        if done.returncode:
            reason = " ".join(done.stdout.decode(errors="replace").split())
            raise InputError(f"input.query: {clean(reason, 1000) or f'DuckDB ended with the code {done.returncode}'}")
        file.seek(0)
        yield file
