"""The run folder: its layout, its lock, `run.json`, and the space that is held back for a full disk."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from batchmix import __version__
from batchmix.errors import NoSpace, RunError
from batchmix.job import Price
from batchmix.records import Draw
from batchmix.store.files import NO_SPACE, allocate, replace_file
from batchmix.store.lock import lock_holder, take_lock

_VERSION = 1
_RESERVE = "reserve"
_JOURNAL_NAME = re.compile(r"(\d{5,})-(\d{3,})\.jsonl")
_OURS = {
    "data",
    "journal",
    "input",
    "run.json",
    "summary.json",
    "lock",
    "evaluation",
    "report.html",
    "run.json.tmp",
    "summary.json.tmp",
}


class Start(msgspec.Struct):
    """One start of a run, and how it ended."""

    at: str
    pid: int
    host: str
    ended_at: str | None = None
    """None while it runs, and for ever after a kill."""
    exit_code: int | None = None
    reason: str = ""
    limited_by: dict[str, list[tuple[float, str]]] = {}
    """By model: from which second on what kept it from being faster; empty text: nothing but the answers themselves."""


class RunFile(msgspec.Struct):
    """`run.json`: what was asked."""

    name: str
    rehearsal: bool
    shard_rows: int
    job: dict[str, Any]
    requests: str
    """Digest of the request-making part of the job."""
    accepted: str
    """Digest of that, the input and the columns: what this run has agreed to be about."""
    columns: str
    """Digest of the carried columns."""
    carried: str
    """The carried columns' Arrow schema, in base64."""
    models: list[str]
    rows: int
    results: int
    """How many results there will be: one for each row, model and sample."""
    scan: dict[str, Any]
    starts: list[Start]
    prices: dict[str, Price] = {}
    """What it counts with, by entry or model id, so that a later start counts alike."""
    canary: dict[str, Draw] = {}
    """The rows that were drawn last to go first, by model."""
    version: int = _VERSION
    batchmix: str = __version__

    def carried_schema(self) -> pa.Schema:
        """Return the carried columns' schema."""
        return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(self.carried)))


class Layout:
    """Where things stand in a run folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.journal = root / "journal"
        self.input = root / "input"
        self.lock = root / "lock"
        self.run_json = root / "run.json"
        self.summary_json = root / "summary.json"
        self.evaluation = root / "evaluation"
        self.redacted: Callable[[bytes], bytes] = bytes
        """Takes the secrets out of what is written."""

    def journal_path(self, shard: int, lane: int) -> Path:
        """Return where a lane's journal of a shard stands."""
        return self.journal / f"{shard:05}-{lane:03}.jsonl"

    def journals(self) -> dict[int, dict[int, Path]]:
        """Return the journals that are there, by shard and lane."""
        found: dict[int, dict[int, Path]] = {}
        for path in sorted(self.journal.glob("*.jsonl")):
            if match := _JOURNAL_NAME.fullmatch(path.name):
                found.setdefault(int(match[1]), {})[int(match[2])] = path
        return found

    def read_run(self) -> RunFile | None:
        """Return `run.json`, or None where there is none. Raises `RunError` if it is not ours."""
        try:
            run = msgspec.json.decode(self.run_json.read_bytes(), type=RunFile)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise RunError(f"{self.root}: is a file; the output is a folder") from None
        except (OSError, msgspec.DecodeError) as error:
            raise RunError(f"{self.run_json}: can't be read: {error}") from error
        if run.version != _VERSION:
            raise RunError(f"{self.run_json}: was written by another version of batchmix ({run.batchmix})")
        return run

    def write_run(self, run: RunFile) -> None:
        """Replace `run.json`. Raises `NoSpace`."""
        self._replace(self.run_json, msgspec.to_builtins(run))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Replace `summary.json`. Raises `NoSpace`."""
        self._replace(self.summary_json, summary)

    def _replace(self, path: Path, value: dict[str, Any]) -> None:
        text = json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        replace_file(path, self.redacted(text))


def run_folders(root: Path) -> list[Path]:
    """Return the run folders in a folder and in its folders, so that `{name}/{date}` is found as well as `{name}`."""
    return sorted(path.parent for pattern in ("*/run.json", "*/*/run.json") for path in root.glob(pattern))


@contextlib.contextmanager
def locked_folder(root: Path, *, wait: bool = False) -> Iterator[Layout]:
    """Hold a run folder, which is made if need be; nobody else can hold it until the block ends.

    A folder that was made here and that came to nothing is taken away again. Raises `RunError` where the folder is
    not one for a run, and `RunLocked`, with the holder's name, where another process works on it and `wait` is not set.
    """
    layout = Layout(root)
    _make_folder(root)
    lock = take_lock(layout.lock, str(root), wait=wait)
    try:
        strange = sorted(path.name for path in root.iterdir() if path.name not in _OURS)
        if strange and not layout.run_json.exists():
            raise RunError(f"{root}: is no run folder, it holds {strange[0]!r}; choose another with --out")
        for folder in (layout.data, layout.journal):
            folder.mkdir(0o700, exist_ok=True)
        for left in [layout.journal / _RESERVE, *layout.journal.glob("*.tmp"), *root.glob("*.json.tmp")]:
            left.unlink(missing_ok=True)  # by a kill
        yield layout
    finally:
        if not layout.run_json.exists():
            _take_away(layout)
        os.close(lock)


def _make_folder(root: Path) -> None:
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(0o700, exist_ok=True)
    except FileExistsError:
        raise RunError(f"{root}: is a file; the output is a folder") from None
    except OSError as error:
        raise RunError(f"{root}: can't be made: {error.strerror}") from error


def _take_away(layout: Layout) -> None:
    """Remove what was made for a run that never began; what holds anything stays."""
    for folder in (layout.data, layout.journal, layout.input):
        with contextlib.suppress(OSError):
            folder.rmdir()
    with contextlib.suppress(OSError):
        if [path.name for path in layout.root.iterdir()] == ["lock"]:
            layout.lock.unlink()
            layout.root.rmdir()


def holder(layout: Layout) -> str | None:
    """Return who works on a run folder just now, or None."""
    return lock_holder(layout.lock)


class Reserve:
    """Disk space that is let go when there is no more, so that what is in flight can still be kept."""

    def __init__(self, layout: Layout) -> None:
        self._path = layout.journal / _RESERVE

    def hold(self, size: int) -> None:
        """Take the space. Raises `NoSpace` where there is not that much."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            allocate(fd, 0, size)
        except OSError as error:
            self._path.unlink()
            if error.errno in NO_SPACE:
                message = (
                    f"no space left: {self._path.parent} needs {size >> 20} MB free to keep what is in flight safe"
                )
                raise NoSpace(f"{message}; make room and start the same command again") from error
            raise
        finally:
            os.close(fd)

    def release(self) -> bool:
        """Give the space back; return whether there was any."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True


def now_text() -> str:
    """Return the time as `run.json` writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
