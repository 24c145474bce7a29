"""What the steps of a row with a long text take, each by itself: python -m tests.benchmarks.steps [--kb N].

The figures are CPU microseconds for one row, of texts in the processor's cache; in a run they take about twice as
long. Beside them stand the bytes per second, which show what depends on the length. `tests.benchmarks` measures the whole.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from batchmix.formats.arrow_build import array_of
from batchmix.load.digests import new_digest
from batchmix.load.json_texts import decode_row_but, joined_json
from batchmix.load.jsonl import WHOLE_FILE, Segment, decode_row, read_lines
from batchmix.load.requests import encode_body, request_hash
from batchmix.records import Exchange, Request
from batchmix.responses.classify import classify
from batchmix.store.journal import Journal, encode_line, response_received
from batchmix.store.journal_reader import decode_line
from batchmix.store.parts import write_rows
from tests.benchmarks.servers import answer
from tests.killing import words

ROUNDS, ROWS = 5, 40
_BATCH_BYTES, _BATCHES = 1 << 20, 64
"""So few bytes that memory is used again, as in a run, and does not come from the system each time."""
Step = tuple[str, Callable[[], Any], int]
"""The step's name, what does it, and for how many rows."""


def prompt_steps(size: int, root: Path) -> Iterator[Step]:
    """Yield the steps of a row with a long prompt, in their order."""
    row = {"id": "r1", "text": f"question 1{words(size)}", "n": 1}
    line = msgspec.json.encode(row) + b"\n"
    path = root / "rows.jsonl"
    path.write_bytes(line * ROWS)
    long = decode_row_but({"text"}, line)["text"]
    body = {"model": "m", "messages": [{"role": "user", "content": joined_json(["Say ", long])}]}
    yield "read from the file (three times)", lambda: [*read_lines(str(path), Segment(0, 0, WHOLE_FILE, 1))], ROWS
    yield "scan: digest", lambda: new_digest().update(line), 1
    yield "scan and seal: decode (twice)", lambda: decode_row(line), 1
    yield "request: decode", lambda: decode_row_but({"text"}, line), 1
    yield "request: render", lambda: joined_json(["Say ", long]), 1
    yield "request: body", lambda: encode_body(body, may_have_odd=False), 1
    yield "request: hash", lambda: request_hash("/v1/chat/completions", body), 1
    yield "  of it SHA-256", lambda: hashlib.sha256(line).digest(), 1
    yield from column_steps("seal", [str(row["text"])], root)


def answer_steps(size: int, root: Path) -> Iterator[Step]:
    """Yield the steps of a row with a long answer, in their order."""
    request = Request(1, "m", 0, "0" * 32, "/chat/completions", b"{}", 1, None)
    exchange = Exchange(1, 2, 0.1, 200, answer(words(size)).encode())
    event = response_received(request, 1, exchange, None)
    line = encode_line(event)
    text = words(size)

    def journal() -> None:
        path = root / "journal.jsonl"
        path.unlink(missing_ok=True)
        lines = Journal(path, lambda: False)
        for _ in range(ROWS):
            lines.append(event)
        os.truncate(path, 0)  # so that closing it does not wait for the disk
        os.close(lines._fd)

    yield "answer: to text", lambda: response_received(request, 1, exchange, None), 1
    yield "answer: to the journal", journal, ROWS
    yield "  of it the line", lambda: encode_line(event), 1
    yield "answer and seal: classify (twice)", lambda: classify(exchange), 1
    yield "seal: from the journal", lambda: decode_line(line), 1
    yield from column_steps("seal", [text, event.body], root)


def column_steps(name: str, texts: list[str], root: Path) -> Iterator[Step]:
    """Yield the steps that make Parquet of the long texts of a row."""
    rows = max(1, _BATCH_BYTES // sum(map(len, texts)))
    fields = [pa.field(str(number), pa.string()) for number in range(len(texts))]
    schema = pa.schema(fields)

    def arrays() -> list[pa.Array]:
        return [array_of([text] * rows, pa.string()) for text in texts]

    batch = pa.RecordBatch.from_arrays(arrays(), schema=schema)
    yield f"{name}: to Arrow", arrays, rows

    def part() -> None:
        write_rows(root / "rows.parquet", schema, iter([batch] * _BATCHES), lambda: None)

    yield f"{name}: to Parquet", part, rows * _BATCHES


def microseconds(work: Callable[[], Any], rows: int) -> float:
    """Return the median CPU time for a row."""
    times = []
    repeats = max(1, 200 // rows)
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(repeats):
            work()
        times.append((time.process_time() - began) / repeats / rows * 1e6)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kb", type=int, help="the length of the texts; default: 100 for prompts, 208 for answers")
    kb = parser.parse_args().kb
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        for what, steps, size in (("prompt", prompt_steps, kb or 100), ("answer", answer_steps, kb or 208)):
            print(f"{what} of {size} KB")
            for name, work, rows in steps(size * 1000, Path(folder)):
                taken = microseconds(work, rows)
                print(f"  {name:36}{taken:8.1f} µs{size / 1000 / (taken / 1e6) / 1000:8.1f} GB/s", flush=True)


if __name__ == "__main__":
    main()
