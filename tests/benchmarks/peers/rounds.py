"""Run a script against a rehearsal provider, undisturbed, killed and with refusals, and count what it sent and left."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.reviews import Answers, read_answers, row_in, write_reviews
from tests.killing import GRACE_S, fetch
from tests.polling import wait_until


@dataclasses.dataclass(frozen=True)
class Script:
    """A script with the Python that runs it."""

    path: Path
    python: str


@dataclasses.dataclass(frozen=True)
class Bounds:
    """How much a round sends, and how long it may take."""

    rows: int
    within_s: float
    """Seconds after which a run is ended."""


@dataclasses.dataclass
class Round:
    """What the provider saw, and what the script wrote."""

    seconds: float
    """From the start of the process that ended last to its end."""
    sending_s: float
    """Of them, from its first request for a row to the last reply."""
    exit_code: int | None
    """None if the run took too long and was ended."""
    requests: dict[int, list[dict[str, Any]]]
    """The provider's records of the requests for each row."""
    others: int
    """The number of requests for no row."""
    answers: Answers


@dataclasses.dataclass
class KilledRound:
    """A round whose first run was killed."""

    round: Round
    answered: int
    """The number of rows whose answer had been sent before the kill."""
    answered_again: int
    """The number of them that were requested again."""
    in_flight: int
    """The number of rows that were requested, but not answered, when the kill came."""
    in_flight_again: int
    """The number of them that were requested again."""


def whole_round(script: Script, url: str, folder: Path, bounds: Bounds) -> Round:
    """Run a script once, in a new folder."""
    write_reviews(folder / "reviews.csv", bounds.rows)
    fetch(url, "reset", "")
    return _to_its_end(script, url, folder, bounds)


def killed_round(script: Script, url: str, folder: Path, bounds: Bounds) -> KilledRound:
    """Run a script in a new folder, kill it once half of the rows are answered, and run it again."""
    write_reviews(folder / "reviews.csv", bounds.rows)
    fetch(url, "reset", "")

    def half() -> bool:
        return int(fetch(url, "totals").get("answered", 0)) >= bounds.rows // 2

    with _running(script, url, folder) as process:
        wait_until(lambda: process.poll() is not None or half(), bounds.within_s)
        ended = process.poll() is not None
        killed_at = time.monotonic()
    assert not ended, f"{script.path.name} ended before it could be killed: {_last_words(folder)}"
    whole = _to_its_end(script, url, folder, bounds)
    answered, in_flight = set[int](), set[int]()
    for row, records in whole.requests.items():
        before = [record for record in records if record["begun"] < killed_at]
        if any(record["answered"] and record["finished"] <= killed_at - GRACE_S for record in before):
            answered.add(row)
        elif any(record["finished"] is None or record["finished"] > killed_at - GRACE_S for record in before):
            in_flight.add(row)
    again = {row for row, records in whole.requests.items() if any(one["begun"] > killed_at for one in records)}
    return KilledRound(whole, len(answered), len(answered & again), len(in_flight), len(in_flight & again))


def refused_rows(found: Round) -> set[int]:
    """Return the rows that the provider refused for good."""
    return {row for row, records in found.requests.items() if any(one["kind"] == "reject" for one in records)}


def requests_per_refused_row(found: Round) -> float:
    """Return how often a row that is refused was requested, on average."""
    refused = refused_rows(found)
    return sum(len(found.requests[row]) for row in refused) / max(1, len(refused))


def faults(found: Round) -> Counter[str]:
    """Return how many requests got each kind of reply."""
    return Counter(record["kind"] for records in found.requests.values() for record in records)


def _to_its_end(script: Script, url: str, folder: Path, bounds: Bounds) -> Round:
    began = time.monotonic()
    with _running(script, url, folder) as process:
        try:
            exit_code: int | None = process.wait(bounds.within_s)
        except subprocess.TimeoutExpired:
            exit_code = None
        seconds = time.monotonic() - began
    requests: dict[int, list[dict[str, Any]]] = {}
    others, times = 0, list[float]()
    for record in fetch(url, "ledger"):
        row = row_in(record["prompt"])
        if row is None:
            others += 1
            continue
        requests.setdefault(row, []).append(record)
        if record["begun"] >= began:
            times += [record["begun"], record["finished"] or record["begun"]]
    sending_s = max(times) - min(times) if times else 0.0
    return Round(seconds, sending_s, exit_code, requests, others, read_answers(folder / "answers.csv"))


@contextlib.contextmanager
def _running(script: Script, url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script in a process group of its own, which is killed at the end."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [script.python, str(script.path)],
            cwd=folder,
            env=_environment(script, url, folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment(script: Script, url: str, folder: Path) -> dict[str, str]:
    """Return the environment of a script: the provider's address, no telemetry, and all caches in its folder."""
    here = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "OPENAI_BASE_URL": url,
        "OPENAI_API_KEY": "no-real-key",
        "AIHUBMIX_BASE_URL": url,
        "AIHUBMIX_API_KEY": "no-real-key",
        "DO_NOT_TRACK": "1",
        "TELEMETRY_ENABLED": "false",  # curator's
        "DAFT_ANALYTICS_ENABLED": "0",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    tokenizers = "lib/python*/site-packages/litellm/litellm_core_utils/tokenizers"
    for found in Path(script.python).parent.parent.glob(tokenizers):
        here["TIKTOKEN_CACHE_DIR"] = str(found)  # curator's tokenizer, which it would download
    return here


def _last_words(folder: Path) -> str:
    return (folder / "log").read_bytes()[-2000:].decode("utf-8", "replace")
