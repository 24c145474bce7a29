"""Kill a job with typed answers twice, and check its table and its account: python -m tests.benchmarks.typed_kills.

Three rehearsal models answer: a strict one, one that puts its JSON into fences and sentences, and one of whose answers a
tenth are invalid. Each reply passes through a recorder. The table and the costs must be those that follow from its
records, by a reading of the replies that shares no code with batchmix.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import http.server
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.killing import provider, status
from tests.polling import wait_until

BEHAVIOUR = (
    "latency=0.02-0.08&seed=7&fenced[chatty]=0.5&chatty[chatty]=0.5"
    "&wrong_enum[wrong]=0.04&missing_key[wrong]=0.03&wrong_type[wrong]=0.03"
)
PRICES = {"strict": (2.0, 8.0), "chatty": (0.5, 1.5), "wrong": (0.1, 0.4)}
"""For each model, USD per million tokens of the prompt and of the answer."""
MOODS = ["good", "bad", "mixed"]
SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": MOODS},
        "stars": {"type": "integer"},
        "share": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["mood", "stars", "share", "tags"],
    "additionalProperties": False,
}
TYPES = {"mood": pa.string(), "stars": pa.int64(), "share": pa.float64(), "tags": pa.list_(pa.string())}


@dataclasses.dataclass
class Record:
    """A reply of the provider."""

    body: str
    reply: dict[str, Any]
    begun: float
    """When its request had been read."""

    @property
    def key(self) -> tuple[int, str]:
        """The row and the model of the request."""
        row = re.search(r"Review (\d+):", self.body)
        assert row
        return int(row[1]), json.loads(self.body)["model"]

    @property
    def usd(self) -> float:
        """The price of the reply."""
        usage, (prompt, answer) = self.reply["usage"], PRICES[self.key[1]]
        return float(usage["prompt_tokens"] * prompt + usage["completion_tokens"] * answer) / 1e6

    @property
    def value(self) -> dict[str, Any] | None:
        """The JSON value of the answer, if it fits the schema."""
        text = self.reply["choices"][0]["message"]["content"]
        try:
            value = json.loads(text)
        except ValueError:  # a fence or sentences are around it
            found = re.search(r'\{\s*".*\}', text, re.DOTALL)
            value = json.loads(found[0]) if found else None
        fits = (
            isinstance(value, dict)
            and set(value) == set(TYPES)
            and value["mood"] in MOODS
            and type(value["stars"]) is int
            and type(value["share"]) in {int, float}
            and isinstance(value["tags"], list)
            and all(isinstance(tag, str) for tag in value["tags"])
        )
        return value if fits else None


class Recorder(http.server.ThreadingHTTPServer):
    """Passes each request on to a provider, and records the replies."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.host = url.split("/")[2]
        self.records: list[Record] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that was killed."""


class _Passing(http.server.BaseHTTPRequestHandler):
    server: Recorder
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        begun = time.monotonic()
        upstream = http.client.HTTPConnection(self.server.host)
        upstream.request("POST", self.path, body.encode(), {"content-type": "application/json"})
        response = upstream.getresponse()
        raw = response.read()
        upstream.close()
        head = f"HTTP/1.1 {response.status} x\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
        self.wfile.write(head.encode() + raw)
        self.server.records.append(Record(body, json.loads(raw), begun))

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def recorder() -> Iterator[tuple[Recorder, str]]:
    """Run a rehearsal provider and a recorder before it; yield the recorder and its base URL."""
    with provider(BEHAVIOUR) as url, Recorder(url) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server, "http://{}:{}/v1".format(*server.server_address)
        finally:
            server.shutdown()
            thread.join()


def job(root: Path, url: str, rows: int) -> Path:
    """Write a job and its rows; return the path of the job."""
    lines = (json.dumps({"n": row, "text": f"word {row % 17}"}) + "\n" for row in range(rows))
    (root / "rows.jsonl").write_text("".join(lines))
    (root / "schema.json").write_text(json.dumps(SCHEMA))
    prices = "\n".join(f'[prices."{name}"]\ninput = {used}\noutput = {made}' for name, (used, made) in PRICES.items())
    models = ", ".join(f'{{name = "{name}", id = "{name}"}}' for name in PRICES)
    path = root / "job.toml"
    path.write_text(
        f'name = "kills"\nmodels = [{models}]\n[input]\npath = "rows.jsonl"\n'
        f'prompt = "Review {{{{ n }}}}: {{{{ text }}}}"\n[provider]\nbase_url = "{url}"\napi_key_env = ""\n'
        f'[answer]\nschema = "schema.json"\nsend = "response_format"\non_invalid = "keep"\n'
        f"[limits]\nconcurrency = 24\n[output]\nshard_rows = {max(10, rows // 8)}\n{prices}\n"
    )
    return path


def check(root: Path, rows: int, seed: int, kills: int = 2) -> str:
    """Run a job that is killed at random points, and compare all that it says with the replies. Return a summary."""
    rng = random.Random(seed)
    results, out = rows * len(PRICES), root / "run"
    with recorder() as (server, url):
        call = [
            sys.executable,
            "-m",
            "batchmix",
            "run",
            str(job(root, url, rows)),
            "--out",
            str(out),
            "--progress=none",
        ]
        killed: list[tuple[float, Counter[tuple[int, str]]]] = []
        for kill in range(kills):
            at = round(results * rng.uniform((kill + 0.2) / (kills + 0.5), (kill + 1) / (kills + 0.5)))
            process = subprocess.Popen(call, stderr=subprocess.DEVNULL)
            wait_until(lambda at=at, process=process: len(server.records) >= at or process.poll() is not None)  # type: ignore[misc]
            assert process.poll() is None
            process.kill()
            process.wait()
            killed.append((time.monotonic(), _stored(out)))
        done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    again = _asked_again(server.records, killed)
    chains = _chains(server.records)
    assert len(chains) == results
    _compare_rows(chains, pq.read_table(out / "data"), rows)
    totals = _compare_account(chains, status(out), again)
    return f"seed {seed}: {results} results, {len(server.records)} replies, {again} of them lost by {kills} kills; {totals}"


def _stored(out: Path) -> Counter[tuple[int, str]]:
    """Return for each row and model how many replies a killed run has stored. A sealed row has all of its replies."""
    stored: Counter[tuple[int, str]] = Counter()
    for path in (out / "journal").glob("*.jsonl"):
        for line in filter(None, path.read_bytes().split(b"\n")):  # empty lines are room for more
            with contextlib.suppress(ValueError):  # the kill may have cut the last line
                event = json.loads(line)
                if event.get("e") == "heard":
                    stored[event["row"], event["model"]] += 1
    for path in (out / "data").glob("*.parquet"):
        for row in pq.read_table(path, columns=["row", "model", "repairs"]).to_pylist():
            stored[row["row"], row["model"]] = row["repairs"] + 1
    return stored


def _asked_again(records: list[Record], kills: list[tuple[float, Counter[tuple[int, str]]]]) -> int:
    """Return how many replies were requested again. None of them may have been stored before the kill."""
    places = {record.body: place for chain in _chains(records).values() for place, record in enumerate(chain)}
    for killed_at, stored in kills:
        for record in records:
            if record.begun > killed_at:
                assert places[record.body] >= stored[record.key], f"stored, and asked again: {record}"
    return len(records) - len(places)


def _chains(records: list[Record]) -> dict[tuple[int, str], list[Record]]:
    """Return for each row and model the replies to its request and to its repairs."""
    chains: dict[tuple[int, str], dict[str, Record]] = {}
    for record in sorted(records, key=lambda record: len(json.loads(record.body)["messages"])):
        chains.setdefault(record.key, {})[record.body] = record
    return {key: list(chain.values()) for key, chain in chains.items()}


def _compare_rows(chains: dict[tuple[int, str], list[Record]], table: pa.Table, rows: int) -> None:
    answer = table.schema.field("answer").type
    assert {field.name: field.type for field in answer} == TYPES
    keys = [(row, model) for row in range(rows) for model in PRICES]
    found = table.select(["row", "model", "answer", "repairs", "status", "error_type", "cost_usd", "raw"]).to_pylist()
    for key, row in zip(keys, found, strict=True):
        chain = chains[key]
        last = chain[-1]
        assert [record.value for record in chain[:-1]] == [None] * (len(chain) - 1), key
        assert len(chain) == 2 or last.value is not None, key
        assert (row["row"], row["model"]) == key
        assert row["answer"] == last.value, key
        assert row["repairs"] == len(chain) - 1, key
        assert (row["status"], row["error_type"]) == ("ok", "schema" if last.value is None else None), key
        assert round(row["cost_usd"], 9) == round(last.usd, 9), key
        assert json.loads(row["raw"]) == last.reply, key


def _compare_account(chains: dict[tuple[int, str], list[Record]], summary: dict[str, Any], again: int) -> str:
    cost = sum(chain[-1].usd for chain in chains.values())
    repairs = [record.usd for chain in chains.values() for record in chain[:-1]]
    assert round(summary["cost_usd"], 9) == round(cost, 9)
    assert round(summary["billed_retries_usd"] or 0, 9) == round(sum(repairs), 9)
    assert summary["billed_retries"] == len(repairs)
    assert summary["ok"] == len(chains)
    assert summary["maybe_billed"] >= again
    kept = sum(chain[-1].value is None for chain in chains.values())
    return f"${cost:.6f} and ${sum(repairs):.6f} for {len(repairs)} invalid answers, {kept} rows kept"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            print(check(Path(folder), args.rows, seed), flush=True)


if __name__ == "__main__":
    main()
