"""The run folder: its layout, and `run.json`."""

from __future__ import annotations

import base64
import datetime
import os
import re
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pyarrow as pa

from batchmix import __version__
from batchmix.answers.typed import TypedAnswers, typed_answers
from batchmix.errors import RunError, RunUnreadable
from batchmix.formats.run_times import now_text
from batchmix.formats.text import json_file
from batchmix.job import Price
from batchmix.records import CanaryDraw
from batchmix.redact import Secrets
from batchmix.remote.stubs import read_origin
from batchmix.responses.classify import Classifier
from batchmix.store.filesystem import PRIVATE, names_in, not_plain, open_plain, replace_file, set_mode
from batchmix.store.ledger import Ledger
from batchmix.store.lock import lock_holder
from batchmix.store.schema import RunIdentity

_VERSION = 1
_CHECKSUM = b',\n "crc": "'
_JOURNAL_NAME = re.compile(r"([0-9]{5,})-([0-9]{3,})\.jsonl")


class Start(msgspec.Struct):
    """One start of a run, and its result."""

    at: str
    pid: int
    host: str
    ended_at: str | None = None
    """None while the start runs, and after a kill."""
    exit_code: int | None = None
    reason: str = ""
    spent: tuple[float, float] = (0.0, 0.0)
    """The USD and tokens that the budget has counted so far, over all starts. 0 if there is no budget."""
    limited_by: dict[str, list[tuple[float, str]]] = {}
    """For each model, the seconds at which its limit changed, and the new limit. Empty for the answers' speed."""
    limited_now: dict[str, str] = {}
    """For each model, what limits its speed now, while the start runs."""
    unstreamed: list[str] = []
    """The models that are not streamed unless the job says so, because one of their streams had no finish reason."""
    surplus_answers: int = 0
    """How often the provider sent more than one response to a request. The surplus was dropped."""
    scheduled: bool | None = None
    """Whether the scheduler started it. None if an older version of batchmix wrote the file."""
    is_try: bool = False
    """Whether it left out rows or models on purpose: with a limit, for some models, or as a canary."""

    def end(self, exit_code: int, reason: str) -> None:
        """Record that the start ends now, and how."""
        self.ended_at, self.exit_code, self.reason = now_text(), exit_code, reason

    def spend(self, spent: tuple[float, float]) -> None:
        """Record the USD and tokens that the budget has counted over all starts."""
        self.spent = spent

    def limit(self, now: dict[str, str], history: dict[str, list[tuple[float, str]]] | None = None) -> None:
        """Record what limits each model's speed now, and, once the sending is over, what limited it over time."""
        self.limited_now = now
        if history is not None:
            self.limited_by = history

    def learn(self, unstreamed: Iterable[str], surplus_answers: int) -> None:
        """Record which models are no longer streamed, and how many surplus answers the provider has sent."""
        self.unstreamed, self.surplus_answers = sorted(unstreamed), surplus_answers


class RunFile(msgspec.Struct):
    """`run.json`: the job, its input, and the starts of the run."""

    name: str
    rehearsal: bool
    shard_rows: int
    job: dict[str, Any]
    requests: str
    """The digest of the part of the job from which requests are made."""
    accepted: str
    """The digest of that part of the job, the input and the columns, as the last start accepted them."""
    columns: str
    """The digest of the carried columns."""
    carried: str
    """The Arrow schema of the carried columns, in base64."""
    models: list[str]
    rows: int
    results: int
    """The number of results of the complete run: one for each row, model and sample."""
    scan: dict[str, Any]
    starts: list[Start]
    prices: dict[str, Price] = {}
    """The prices of this run, by model name or id. Later starts use the same prices."""
    canary: dict[str, CanaryDraw] = {}
    """The rows of the last canary, by model."""
    masked: list[list[str | int]] = []
    """The settings of the job in which a secret was masked, as lists of keys."""
    run: str = ""
    """The name of the run, given by its first start. Empty if no start of this version has been made."""
    night: datetime.date | None = None
    """The scheduled date, as the first start had it. None if the run has none."""
    ways: dict[str, str] = {}
    """How the schema of the answers is sent to each model, by name. Later starts send it in the same way."""
    version: int = _VERSION
    batchmix: str = __version__

    def begin(self, start: Start) -> None:
        """Add a start."""
        self.starts.append(start)

    def fix_prices(self, prices: dict[str, Price]) -> None:
        """Record the prices that this start and all later ones use."""
        self.prices = prices

    def draw(self, canary: dict[str, CanaryDraw]) -> None:
        """Record the rows of a new canary, by model."""
        self.canary = canary

    @property
    def is_try(self) -> bool:
        """Whether the last start left out rows or models on purpose."""
        return bool(self.starts) and self.starts[-1].is_try

    @property
    def is_ended_try(self) -> bool:
        """Whether the last start was a try that ended by itself. What it left out was not asked for."""
        return self.is_try and self.starts[-1].exit_code in {0, 1}

    @property
    def is_scheduled(self) -> bool:
        """Whether the scheduler started the run, or may have: older versions of batchmix did not record it."""
        return any(start.scheduled is not False for start in self.starts)

    @property
    def typed(self) -> TypedAnswers | None:
        """What checks the answers against the job's schema. None if the job has none. Raises `RunUnreadable`."""
        try:
            return typed_answers(self.job.get("answer"))
        except (KeyError, TypeError, ValueError) as error:
            raise RunUnreadable("run.json", "the schema of its answers can't be read") from error

    def classifier(self, secrets: Secrets | None) -> Classifier:
        """Return what classifies the responses in the run's journals. Raises `RunUnreadable`."""
        return Classifier(secrets, self.typed)

    def carried_schema(self) -> pa.Schema:
        """Return the carried columns' schema. Raises `RunUnreadable` if the schema is damaged."""
        try:
            return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(self.carried)))
        except (OSError, ValueError, pa.ArrowException) as error:  # binascii's error is a ValueError
            raise RunUnreadable("run.json", "its schema of the carried columns can't be read") from error


class Layout:
    """The paths in a run folder, the permissions of new files, and the secrets to mask in them."""

    def __init__(self, root: Path, *, mode: int | None = None, secrets: Secrets | None = None) -> None:
        self.root = root
        self.mode = mode
        """The permissions of the files, as configured in the job. None if only the owner has access."""
        self.secrets = secrets
        """The secrets that are masked in everything that is written. None if there are none, or they are unknown."""
        self.data = root / "data"
        self.journal = root / "journal"
        self.input = root / "input"
        self.lock = root / "lock"
        self.run_json = root / "run.json"
        self.summary_json = root / "summary.json"
        self.manifest_json = root / "manifest.json"
        self.mark = root / "_SUCCESS"
        self.evaluation = root / "evaluation"
        self.verdict_json = self.evaluation / "verdict.json"
        self.report = root / "report.html"
        self.ledger = Ledger(root / "ledger.jsonl", mode)

    def identity(self, run: RunFile) -> RunIdentity:
        """Return what tells a run from others, in its results."""
        return RunIdentity(run.name, run.run or self.name_of_run(run.night), run.night)

    def name_of_run(self, night: datetime.date | None) -> str:
        """Return the name that a new run gets: that of its folder, after the parent's if the folder's is the date."""
        origin = read_origin(self.root)
        root = PurePosixPath(origin.url if origin else os.path.abspath(self.root))  # noqa: PTH100 - links keep their names
        is_date = night is not None and root.name.startswith(night.isoformat())
        return f"{root.parent.name}/{root.name}" if is_date else root.name

    @property
    def file_mode(self) -> int:
        """The permissions of a new file."""
        return PRIVATE if self.mode is None else self.mode

    def redacted(self, data: bytes) -> bytes:
        """Return `data` with the secrets masked."""
        return self.secrets.redacted(data) if self.secrets else data

    def journal_path(self, shard: int, lane: int) -> Path:
        """Return the path of a lane's journal for a shard."""
        return self.journal / f"{shard:05}-{lane:03}.jsonl"

    def journals(self) -> dict[int, dict[int, Path]]:
        """Return the existing journals, by shard and lane."""
        by_shard: dict[int, dict[int, Path]] = {}
        for path in map(self.journal.joinpath, names_in(self.journal)):
            match = _JOURNAL_NAME.fullmatch(path.name)
            if match and path == self.journal_path(int(match[1]), int(match[2])):
                by_shard.setdefault(int(match[1]), {})[int(match[2])] = path
        return by_shard

    def make_folders(self) -> None:
        """Create the folders for parts and journals, and set the permissions of all files."""
        for folder in (self.data, self.journal):
            folder.mkdir(0o700, exist_ok=True)
        if self.mode is not None:
            self._set_modes(self.mode)

    def make_folder(self, folder: Path) -> None:
        """Create another folder in the run folder, unless it exists. Raises `RunError` if it is a link."""
        if folder.is_symlink():
            raise not_plain(folder)
        folder.mkdir(0o700, parents=True, exist_ok=True)
        set_mode(folder, self.mode)

    def _set_modes(self, mode: int) -> None:
        """Set the permissions of all existing files."""
        spools = [path for pattern in ("[0-9]*", "[0-9]*/*.jsonl") for path in self.input.glob(pattern)]
        parts = self.data.glob("part-*.parquet")
        for path in (self.root, self.data, self.journal, self.lock, *parts, *self.journal.glob("*.jsonl")):
            set_mode(path, mode)
        for path in (self.input, self.ledger.path, self.mark, *spools):
            if path.exists() and not path.is_symlink():
                set_mode(path, mode)

    def check_folders(self) -> None:
        """Raise `RunError` if one of the run's folders is a link or a file."""
        for folder in (self.data, self.journal, self.input, self.evaluation):
            if folder.is_symlink():
                raise RunError(
                    f"{folder}: is a link to {folder.readlink()}; a run keeps its files in its own folder: move all"
                    " of that there, and link to it"
                )
            if folder.exists() and not folder.is_dir():
                raise RunError(f"{folder}: is a file, but a run needs a folder there; move it away")

    def read_run(self) -> RunFile | None:
        """Return the content of `run.json`. None without the file. Raises `RunError` if batchmix did not write it."""
        try:
            self.check_folders()
            with open(open_plain(self.run_json, os.O_RDONLY), "rb") as file:  # noqa: PTH123 - no link is followed
                run = msgspec.json.decode(file.read(), type=RunFile)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise RunError(f"{self.root}: is a file; the output is a folder") from None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RunUnreadable(self.run_json, f"can't be read: {error}") from error
        if run.version != _VERSION:
            raise RunError(f"{self.run_json}: was written by another version of batchmix ({run.batchmix})")
        return run

    def answers_in_summary(self) -> int:
        """Return the number of answers in `summary.json`. 0 if the file can't be read."""
        try:
            ok = msgspec.json.decode(self.summary_json.read_bytes(), type=dict[str, Any]).get("ok")
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return 0
        return ok if isinstance(ok, int) else 0

    def run_is_whole(self) -> bool:
        """Return whether `run.json` matches its checksum, or has none."""
        text, has_checksum, crc = self.run_json.read_bytes().rpartition(_CHECKSUM)
        return not has_checksum or crc[:8] == b"%08x" % zlib.crc32(text)

    def write_run(self, run: RunFile) -> None:
        """Replace `run.json`. Its last key is a checksum of everything before that key. Raises `NoSpace`."""
        text = self._text(msgspec.to_builtins(run)).removesuffix(b"\n}\n")
        replace_file(self.run_json, text + _CHECKSUM + b'%08x"\n}\n' % zlib.crc32(text), self.file_mode)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Replace `summary.json`. Raises `NoSpace`."""
        replace_file(self.summary_json, self._text(summary), self.file_mode)

    def _text(self, value: dict[str, Any]) -> bytes:
        return self.redacted(json_file(value))


def run_folders(root: Path) -> list[Path]:
    """Return the run folders one or two levels below a folder: `{name}` and `{name}/{date}`."""
    return sorted(path.parent for pattern in ("*/run.json", "*/*/run.json") for path in root.glob(pattern))


def holder(layout: Layout) -> str | None:
    """Return the name of the process that works on a run folder now. None if no process does."""
    return lock_holder(layout.lock)
