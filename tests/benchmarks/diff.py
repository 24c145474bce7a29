"""What `batchmix diff` finds, and what it only imagines: python -m tests.benchmarks.diff [--pairs 200].

Two nights of an evaluation: 2,000 rows, three models, scores of 0 and 1. By chance 5 % of the answers turn wrong from
one night to the next and 5 % turn right. One model is right 3 points less often in the second night, or none is. The
runs are real ones, the stand-in's answers to real requests; only their scores are drawn, and each pair is compared as
the command does it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.evaluation.comparison import compare_runs
from batchmix.evaluation.evaluate_run import evaluate_run, prepare_scorers
from batchmix.evaluation.judge import JudgeContext
from batchmix.job import read_job
from batchmix.redact import Secrets

ROWS, MODELS, FLIPS, DROP = 2000, ("first", "second", "third"), 0.05, 0.03
PLANTED = MODELS[1]
BASE = (0.6, 0.75, 0.9)
"""The share of right answers of each model."""


def evaluated_run(root: Path, name: str) -> Path:
    """Run and evaluate one run."""
    (root / "rows.jsonl").write_text("".join(json.dumps({"text": f"q{n}", "answer": "x"}) + "\n" for n in range(ROWS)))
    settings = {
        "name": "nightly",
        "models": [{"id": model} for model in MODELS],
        "input": {"path": str(root / "rows.jsonl"), "prompt": "{{ text }}"},
        "provider": {"base_url": "rehearsal:"},
        "output": {"path": str(root / name)},
        "eval": {"target": "answer", "scorers": [{"kind": "exact"}]},
    }
    job = read_job(None, settings, {})
    run_job(job, Secrets(), Options(), RunStatus())
    evaluate_run(root / name, JudgeContext(job, Secrets(), RunStatus()), prepare_scorers(job))
    return root / name


def first_night(draw: np.random.Generator) -> np.ndarray:
    """Return scores of 0 and 1 by row and model."""
    return (draw.random((ROWS, len(MODELS))) < BASE).astype(float)


def next_night(draw: np.random.Generator, before: np.ndarray, drop: float) -> np.ndarray:
    """Return the next night's: 5 % of all answers flip each way, and the planted model loses `drop` more."""
    after = before.copy()
    for at, model in enumerate(MODELS):
        wrong_share = FLIPS + (drop if model == PLANTED else 0.0)
        right, wrong = np.flatnonzero(before[:, at] == 1), np.flatnonzero(before[:, at] == 0)
        after[right[draw.random(len(right)) < wrong_share * ROWS / len(right)], at] = 0
        after[wrong[draw.random(len(wrong)) < FLIPS * ROWS / len(wrong)], at] = 1
    return after


def put(run: Path, scores: np.ndarray) -> None:
    """Put drawn scores in place of a run's; results are in the order of row and model."""
    path = run / "evaluation" / "scores.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index("score")
    pq.write_table(table.set_column(at, "score", pa.array(scores.ravel())), path)


def alarms(runs: tuple[Path, Path], draw: np.random.Generator, drop: float) -> set[str]:
    """Return the models that a diff of two drawn runs reports as worse."""
    before = first_night(draw)
    put(runs[0], before)
    put(runs[1], next_night(draw, before, drop))
    return {one.model for one in compare_runs(*runs).worse}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = np.random.default_rng(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        runs = evaluated_run(Path(folder), "a"), evaluated_run(Path(folder), "b")
        began = time.perf_counter()
        planted = [alarms(runs, draw, DROP) for _ in range(args.pairs)]
        nothing = [alarms(runs, draw, 0.0) for _ in range(args.pairs)]
        took_s = (time.perf_counter() - began) / (2 * args.pairs)
    found = sum(PLANTED in one for one in planted) / args.pairs
    cleared = sum(not one - {PLANTED} for one in planted) / args.pairs
    false = sum(bool(one) for one in nothing)
    most = round(17 * args.pairs / 200)
    print(f"a drop of {DROP:.0%} in one model: found in {found:.1%} of {args.pairs} pairs (promised: 90 %)")
    print(f"the other models: both cleared in {cleared:.1%} (promised: 95 %)")
    print(f"no change: {false} alarms in {args.pairs} pairs (promised: at most {most})")
    print(f"{took_s * 1000:.0f} ms a pair")
    assert found >= 0.9
    assert cleared >= 0.95
    assert false <= most


if __name__ == "__main__":
    main()
