"""What `batchmix diff` and the trend find, and what they only imagine: python -m tests.benchmarks.verdicts [--pairs 200].

Two nights of an evaluation: 2,000 rows in 20 categories, three models, scores of 0 and 1. By chance 5 % of the answers
turn wrong from one night to the next and 5 % turn right. The runs are real ones, the stand-in's answers to real
requests; only their scores or latencies are drawn, and each pair is compared as the command does it, with its default
guards and with a test for each category. The nights of the trend are drawn as means, since it sees nothing else; those of
the lines `in folders` are run folders with drawn answers, each of which is evaluated, compared and judged as by the command.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.comparison.run_diff import Diff, compare_runs
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.evaluation.judge import JudgeContext
from batchmix.job import read_job
from batchmix.redact import Secrets
from batchmix.statistics.paired import compare
from batchmix.statistics.trend import Night, trend
from batchmix.store.parts import CHECKSUM_KEY
from batchmix.verdict.evaluate_run import evaluate_run, prepare_scorers
from tests.benchmarks.table import COLUMNS, Bound, Line, in_columns
from tests.benchmarks.verdict_folders import drawn_nights, model_run, verdicts_of

ROWS, MODELS, FLIPS, DROP = 2000, ("first", "second", "third"), 0.05, 0.03
PLANTED = MODELS[1]
BASE = (0.6, 0.75, 0.9)
"""The share of right answers of each model."""
GROUPS, DOCUMENTS, SHOCK, PACE = 20, 200, 0.1, 1.1
NIGHTS, MONTH = 20, 30
RATE = 0.075
"""The rate of the trend's false alarms in a month, for all scores that are watched together."""
Runs = tuple[Path, Path]


def evaluated_run(root: Path, name: str, settings: dict[str, Any]) -> Path:
    """Run and evaluate one run."""
    rows = [
        {"text": f"q{n}", "answer": "x", "category": f"c{n % GROUPS}", "document": f"d{n % DOCUMENTS}"}
        for n in range(ROWS)
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = read_job(
        None,
        {
            "name": "nightly",
            "models": [{"id": model} for model in MODELS],
            "input": {"path": str(root / "rows.jsonl"), "prompt": "{{ text }}"},
            "provider": {"base_url": "rehearsal:"},
            "output": {"path": str(root / name)},
            "eval": {"target": "answer", "scorers": [{"kind": "exact"}], **settings},
        },
        {},
    )
    run_job(job, Secrets(), Options(), RunStatus())
    evaluate_run(root / name, JudgeContext(job, Secrets(), RunStatus()), prepare_scorers(job))
    return root / name


def two_runs(root: Path, name: str, **settings: Any) -> Runs:
    """Run and evaluate two nights of a job."""
    return evaluated_run(root, f"{name}-a", settings), evaluated_run(root, f"{name}-b", settings)


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


def put_latencies(run: Path, latencies: np.ndarray) -> None:
    """Put drawn latencies in place of a run's."""
    drawn, at = latencies.ravel(), 0
    for path in sorted((run / "data").glob("*.parquet")):
        table, about = pq.read_table(path), pq.read_metadata(path).metadata
        values = pa.array(drawn[at : at + len(table)], table.schema.field("latency_s").type)
        at += len(table)
        with pq.ParquetWriter(path, table.schema) as writer:
            writer.write_table(table.set_column(table.schema.get_field_index("latency_s"), "latency_s", values))
            # A part without a checksum is read as one of an older version.
            writer.add_key_value_metadata(
                {key: value for key, value in about.items() if key not in {CHECKSUM_KEY, b"ARROW:schema"}}
            )


def scored(runs: Runs, draw: np.random.Generator, drop: float = 0.0) -> Diff:
    """Compare two drawn nights, of which the second is worse for one model, or is not."""
    before = first_night(draw)
    put(runs[0], before)
    put(runs[1], next_night(draw, before, drop))
    return compare_runs(*runs)


def with_fallen_group(runs: Runs, draw: np.random.Generator) -> Diff:
    """Compare two drawn nights: one category of one model falls from 0.75 to 0.35, the others only flip."""
    before = first_night(draw)
    after = next_night(draw, before, 0.0)
    fallen = np.arange(ROWS) % GROUPS == 7
    after[fallen, 1] = np.minimum(after[fallen, 1], draw.random(fallen.sum()) < 0.35 / 0.75)
    put(runs[0], before)
    put(runs[1], after)
    return compare_runs(*runs)


def with_shocks(runs: Runs, draw: np.random.Generator) -> Diff:
    """Compare two drawn nights in which all rows of a document are answered better or worse together."""
    chance = np.clip(np.array(BASE) + draw.normal(0, 0.15, (ROWS, 1)), 0.15, 0.85)
    for run in runs:
        shock = draw.normal(0, SHOCK, (DOCUMENTS, len(MODELS)))[np.arange(ROWS) % DOCUMENTS]
        put(run, (draw.random(chance.shape) < chance + shock).astype(float))
    return compare_runs(*runs)


def with_pace(runs: Runs, draw: np.random.Generator, slower: float = 1.0) -> Diff:
    """Compare two drawn nights of which the second is slow with all models, and one model is slower still, or is not."""
    row = draw.lognormal(0, 0.5, (ROWS, 1))
    put_latencies(runs[0], row * draw.lognormal(0, 0.5, (ROWS, len(MODELS))))
    second = PACE * row * draw.lognormal(0, 0.5, (ROWS, len(MODELS)))
    second[:, 1] *= slower
    put_latencies(runs[1], second)
    return compare_runs(*runs)


def nights(draw: np.random.Generator, rows: int, count: int, decline_from: int | None = None) -> list[Night]:
    """Draw the nights of one score, as the trend sees them."""
    made: list[Night] = []
    before = None
    for right in drawn_nights(draw, rows, count, decline_from):
        paired = None if before is None else compare(before, right, np.arange(rows))
        noise = None if paired is None or paired.stderr is None else paired.stderr / math.sqrt(2)
        made.append(Night(float(right.mean()), rows, noise))
        before = right
    return made


def share(pairs: int, found: Callable[[], bool]) -> float:
    """Return in which share of pairs, in percent, it was found."""
    return 100 * sum(found() for _ in range(pairs)) / pairs


def is_worse(diff: Diff, model: str) -> bool:
    """Return whether the score of a model is worse, over all rows."""
    return any(one.model == model and not one.group for one in diff.worse)


def score_lines(root: Path, pairs: int, draw: np.random.Generator) -> Iterator[Line]:
    runs = two_runs(root, "grouped", group_by=["category"])
    planted = [scored(runs, draw, DROP) for _ in range(pairs)]
    found, others = (
        100 * sum(hits) / pairs
        for hits in zip(
            *((is_worse(diff, PLANTED), not any(one.model != PLANTED for one in diff.worse)) for diff in planted),
            strict=True,
        )
    )
    yield Line("3 points lost: found", found, " %", bound=Bound("≥", 90, " %"))
    yield Line("  the other models cleared", others, " %", bound=Bound("≥", 95, " %"))
    yield Line(
        "no change: alarms", share(pairs, lambda: bool(scored(runs, draw).alarms)), " %", bound=_at_most(5, pairs)
    )

    def is_found() -> bool:
        diff = with_fallen_group(runs, draw)
        return any(one.model == PLANTED and one.group == {"category": "c7"} for one in diff.worse)

    yield Line("1 of 20 groups .75 → .35: found", share(pairs, is_found), " %", bound=Bound("≥", 85, " %"))


def cluster_lines(root: Path, pairs: int, draw: np.random.Generator) -> Iterator[Line]:
    runs = two_runs(root, "clustered", cluster="document")
    alarms = share(pairs, lambda: bool(with_shocks(runs, draw).alarms))
    by_row = two_runs(root, "by-row")
    without = share(pairs, lambda: bool(with_shocks(by_row, draw).alarms))
    bound = _at_most(6, pairs)
    yield Line("document shock 0.1: alarms", alarms, " %", "without cluster", without, bound=bound)


def pace_lines(root: Path, pairs: int, draw: np.random.Generator) -> Iterator[Line]:
    guards = [
        {"no_worse_by": 1.0},  # the stand-in's answers are all wrong, which is not compared otherwise
        *({"metric": metric} for metric in ("latency_s", "latency_p50", "latency_p90")),
    ]
    runs = two_runs(root, "paced", guards=guards)
    yield Line(
        "all 10 % slower: alarms",
        share(pairs, lambda: bool(with_pace(runs, draw).alarms)),
        " %",
        bound=_at_most(6, pairs),
    )
    found = share(pairs, lambda: is_worse(with_pace(runs, draw, 1.1), PLANTED))
    yield Line("one 10 % slower than that: found", found, " %", bound=Bound("≥", 90, " %"))


def trend_lines(pairs: int, draw: np.random.Generator) -> Iterator[Line]:
    for rows in (300, 1000, 2000):

        def is_found(rows: int = rows) -> bool:
            made = nights(draw, rows, 10 + NIGHTS, 10)
            return any(trend(made[: 10 + n], RATE, len(MODELS)).alarm for n in range(1, NIGHTS + 1))

        bound = Bound("≥", 90, " %") if rows >= 1000 else None
        yield Line(f"0.3 a night, {rows:,} drawn: in 20", share(pairs, is_found), " %", bound=bound)
    for rows in (300, 1000):
        years = max(1, pairs // 10)
        begun = sum(
            _begun([trend(made[:end], RATE).alarm for end in range(1, 366)])
            for made in (nights(draw, rows, 365) for _ in range(years))
        )
        yield Line(f"unchanged, {rows:,} drawn: {years} years", begun, "", bound=Bound("≤", years))


def folder_lines(root: Path, sequences: int, draw: np.random.Generator) -> Iterator[Line]:
    """Judge sequences of nights in real run folders: a slow decline, and months without any change."""
    rows = 1000
    model, home = model_run(root, rows), root / "nights"

    def is_found() -> bool:
        made = verdicts_of(model, home, drawn_nights(draw, rows, 10 + NIGHTS, 10))
        return any(one.kind == "trend" for verdict in made for one in verdict.alarms)

    label = f"0.3 a night, {sequences} in folders: in 20"
    least = 100 * (0.9 - 1.645 * math.sqrt(0.09 / sequences))  # in all but 1 of 20 cases, where it is 90 %
    yield Line(label, share(sequences, is_found), " %", bound=Bound("≥", round(least, 1), " %"))
    alarms = {"trend": 0, "worse": 0}
    for _ in range(sequences):
        made = list(verdicts_of(model, home, drawn_nights(draw, rows, MONTH, None)))
        for kind in alarms:
            alarms[kind] += _begun([any(one.kind == kind for one in verdict.alarms) for verdict in made])
    for kind, rate in (("trend", RATE), ("worse", 2 * RATE)):
        most = math.ceil(rate * sequences + 1.645 * math.sqrt(rate * sequences))
        yield Line(f"unchanged, {sequences} folder months: {kind}", alarms[kind], "", bound=Bound("≤", most))


def _begun(alarms: Sequence[bool]) -> int:
    """Return how often an alarm began. It may last for some nights."""
    return sum(now and not before for before, now in zip([False, *alarms], alarms, strict=False))


def _at_most(percent: float, pairs: int) -> Bound:
    """Return the bound of a share that is at most `percent`: as many alarms as that gives in all but 1 of 20 cases."""
    spread = 1.645 * math.sqrt(percent * (100 - percent) / pairs)
    return Bound("≤", round(percent + spread, 1), " %")


def at_least_one(text: str) -> int:
    """Return a number of pairs or sequences, of which a share is told. Raises `ArgumentTypeError` for less than 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=at_least_one, default=200)
    parser.add_argument("--folders", type=at_least_one, default=20, help="sequences of nights in real run folders")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = np.random.default_rng(args.seed)
    missed = 0
    print(in_columns(COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        parts: Sequence[Iterator[Line]] = (
            score_lines(Path(folder), args.pairs, draw),
            cluster_lines(Path(folder), args.pairs, draw),
            pace_lines(Path(folder), args.pairs, draw),
            trend_lines(args.pairs, draw),
            folder_lines(Path(folder), args.folders, draw),
        )
        for line in (line for part in parts for line in part):
            print(in_columns(line.cells()), flush=True)
            missed += line.verdict == "miss"
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
