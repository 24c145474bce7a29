"""Nights of one job as real run folders: their answers are drawn, and each night is evaluated as the command does it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.job import CheckedJob, read_job
from batchmix.redact import Secrets
from batchmix.store.parts import CHECKSUM_KEY
from batchmix.verdict.outcome import evaluated, evaluation_of
from batchmix.verdict.verdict_file import Verdict

DECLINE = 0.003
"""The share of all answers that is lost each night in a slow decline."""
_FIRST = datetime(2026, 1, 1, 2, 30)


def drawn_nights(draw: np.random.Generator, rows: int, count: int, decline_from: int | None) -> Iterator[np.ndarray]:
    """Yield the scores of each night: a row is right with a chance of its own, so that 5 % flip each way."""
    chance = np.where(draw.random(rows) < 0.75, 0.947, 0.053)
    for at in range(count):
        fall = 0.0 if decline_from is None else DECLINE * max(0, at - decline_from + 1)
        right = (draw.random(rows) < chance).astype(float)
        right[draw.random(rows) < fall / 0.723] = 0  # of the rows, 72.3 % are right in the mean
        yield right


def model_run(root: Path, rows: int) -> tuple[Path, CheckedJob]:
    """Run the job once, with as many rows. Its folder is the model of all nights."""
    (root / "nights.jsonl").write_text("".join(f'{{"text": "q{n}", "answer": "x"}}\n' for n in range(rows)))
    job = read_job(
        None,
        {
            "name": "nightly",
            "model": "m",
            "input": {"path": str(root / "nights.jsonl"), "prompt": "{{ text }}"},
            "provider": {"base_url": "rehearsal:"},
            "output": {"path": str(root / "model")},
            "schedule": {"cron": "30 2 * * *"},
            "eval": {"target": "answer", "against": "last-good", "scorers": [{"kind": "exact"}]},
        },
        {},
    )
    run_job(job, Secrets(), Options(scheduled=True), RunStatus())
    return root / "model", job


def verdicts_of(model: tuple[Path, CheckedJob], home: Path, nights: Iterator[np.ndarray]) -> Iterator[Verdict]:
    """Make a run folder of each night, the answers of which have these scores, and yield the verdict on it."""
    shutil.rmtree(home, ignore_errors=True)
    for number, scores in enumerate(nights):
        began = _FIRST + timedelta(days=number)
        folder = home / f"{began:%Y-%m-%d}"
        shutil.copytree(model[0], folder)
        record = json.loads((folder / "run.json").read_text())
        record.pop("crc")  # without a checksum, the file may be changed
        record["starts"][0]["at"] = f"{began:%Y-%m-%dT%H:%M:%S}.000Z"
        (folder / "run.json").write_text(json.dumps(record))
        _put_answers(folder, scores)
        yield evaluated(evaluation_of(folder, model[1], Secrets())).verdict


def _put_answers(folder: Path, scores: np.ndarray) -> None:
    """Put right and wrong answers in place of a run's."""
    [path] = (folder / "data").glob("*.parquet")
    table, about = pq.read_table(path), pq.read_metadata(path).metadata
    answers = pa.array(np.where(scores > 0, "x", "y").tolist(), table.schema.field("response").type)
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table.set_column(table.schema.get_field_index("response"), "response", answers))
        # A part without a checksum is read as one of an older version.
        kept = {key: value for key, value in about.items() if key not in {CHECKSUM_KEY, b"ARROW:schema"}}
        writer.add_key_value_metadata(kept)
