"""Fixtures for all rooms."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pyarrow.parquet as pq
import pytest

from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.evaluation.judge import JudgeContext
from batchmix.evaluation.measure import Metrics
from batchmix.job import read_job
from batchmix.pacing.ramp import Ramp
from batchmix.redact import Secrets
from batchmix.store.view import View
from batchmix.verdict.evaluate_run import evaluate_run, prepare_scorers
from tests import odd_provider
from tests.gateway import Gateway, serving
from tests.killing import fetch
from tests.killing import provider as provider_process
from tests.virtual_time import VirtualTimeLoop
from tests.wire import certificate, wire  # noqa: F401 - fixtures


def pytest_configure() -> None:
    """Let Python keep what it compiles. Otherwise each process that a test starts compiles its libraries again: 1 s."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests that are marked `virtual_time` on an event loop with a simulated clock."""
    if marker := item.get_closest_marker("virtual_time"):
        return {"virtual": functools.partial(VirtualTimeLoop, **marker.kwargs)}
    return {"real": asyncio.new_event_loop}


# How long an example takes depends more on the machine than on the code.
# With CI=1, each run tries the same examples: what fails there comes from the change. Elsewhere they are random.
hypothesis.settings.register_profile("batchmix", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("batchmix")


@pytest.fixture(scope="session")
def _provider_process() -> Iterator[str]:
    with provider_process("") as url:
        yield url


@dataclasses.dataclass
class Provider:
    """A rehearsal provider in a process of its own."""

    url: str

    def behave(self, text: str = "") -> None:
        """Set the behaviour of the provider, in the notation of `batchmix rehearse`."""
        fetch(self.url, "behaviour", text)

    def request_count(self) -> int:
        """Return the number of requests that the provider has received since the test began."""
        return int(fetch(self.url, "totals").get("requests", 0))

    def prompts(self) -> list[str]:
        """Return the prompts that the provider has received, in order."""
        return [record["prompt"] for record in self.ledger()]

    def ledger(self) -> list[dict[str, Any]]:
        """Return what the provider has recorded of each request, in order."""
        found: list[dict[str, Any]] = fetch(self.url, "ledger")
        return found


@pytest.fixture
def all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests leave all at once, at the start and after throttles, instead of in growing groups."""
    monkeypatch.setattr(Ramp, "wait_s", lambda self, now: 0.0)


@pytest.fixture
def standin(_provider_process: str) -> Provider:
    """The rehearsal provider, with default behaviour and an empty ledger."""
    found = Provider(_provider_process)
    found.behave()
    fetch(found.url, "reset", "")
    return found


class Bench:
    """A job with one input and one run folder. A test can run it several times, with changes in between."""

    def __init__(self, root: Path, standin: Provider) -> None:
        self.root = root
        self.source = root / "rows.jsonl"
        self.out = root / "run"
        self.standin = standin
        self.settings: dict[str, Any] = {
            "name": "bench",
            "model": "m",
            "input": {"path": str(self.source), "prompt": "Say {{ text }}"},
            "provider": {"base_url": standin.url, "api_key_env": ""},
            "output": {"path": str(self.out), "shard_rows": 10},
            "limits": {"concurrency": 8},
        }
        self.run_status = RunStatus()

    def write(self, count: int, first: int = 0, text: str = "word {}") -> None:
        """Write rows to the input. If `first` is not 0, append them."""
        with self.source.open("a" if first else "w") as file:
            for number in range(first, first + count):
                file.write(json.dumps({"id": f"r{number}", "text": text.format(number), "n": number}) + "\n")

    def run(self, **options: Any) -> View:
        """Run the job until it finishes or stops, and return the state of the run."""
        self.run_status = RunStatus()
        key = options.pop("key", "")
        job = read_job(None, self.settings, {})
        return run_job(job, Secrets(key), Options(**options), self.run_status)

    def rows(self) -> list[dict[str, Any]]:
        """Return the result rows of the sealed parts."""
        rows: list[dict[str, Any]] = pq.read_table(self.out / "data").to_pylist()
        return rows

    def start(self) -> dict[str, Any]:
        """Return the last start, as recorded in run.json."""
        found: dict[str, Any] = json.loads((self.out / "run.json").read_text())["starts"][-1]
        return found


@pytest.fixture
def bench(tmp_path: Path, standin: Provider) -> Bench:
    return Bench(tmp_path, standin)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A server in place of AiHubMix, with a catalogue of prices and a balance."""
    with serving() as found:
        yield found


@pytest.fixture
def provider(bench: Bench) -> Iterator[odd_provider.Provider]:
    """A server that answers the rows of a bench with the bytes that the test sets."""
    with odd_provider.Provider() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        bench.settings["provider"]["base_url"] = "http://127.0.0.1:{1}/v1".format(*server.server_address)
        yield server
        server.shutdown()
        thread.join()


class EvalBench(Bench):
    """A bench whose model answers with the text of the column `said`."""

    def __init__(self, root: Path, standin: Provider) -> None:
        super().__init__(root, standin)
        self.settings["input"]["prompt"] = "[[rehearsal:echo]] {{ said }}"
        self.settings["eval"] = {"target": "answer", "scorers": [{"kind": "includes"}]}

    def write_said(self, rows: list[dict[str, Any]]) -> None:
        """Write the rows; each has `said`, `answer` and any other columns."""
        self.source.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def evaluate(self) -> Metrics:
        """Evaluate the run in its present state."""
        job = read_job(None, self.settings, {})
        return evaluate_run(self.out, JudgeContext(job, Secrets(), RunStatus()), prepare_scorers(job))

    def scores(self) -> list[dict[str, Any]]:
        """Return the rows of scores.parquet."""
        found: list[dict[str, Any]] = pq.read_table(self.out / "evaluation" / "scores.parquet").to_pylist()
        return found


@pytest.fixture
def evaluated(tmp_path: Path, standin: Provider) -> EvalBench:
    return EvalBench(tmp_path, standin)
