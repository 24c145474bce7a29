"""The rows of a judge's input: one for each result of the judged run, or two if it is compared with another answer."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from batchmix.engine import reader
from batchmix.evaluation.scored_text import SCORED_COLUMNS, scored_texts
from batchmix.formats.arrow_values import row_values
from batchmix.job import CheckedJob
from batchmix.job.eval_table import Eval
from batchmix.load import RESULT_NAMES, rubric_columns
from batchmix.records import Status
from batchmix.scorers.indirect import Judge
from batchmix.scorers.settings import target_text
from batchmix.scorers.verdict_forms import FORM_COLUMN, form_text
from batchmix.store.filesystem import atomic_replacement
from batchmix.store.run_folder import Layout, RunFile

SAME_COLUMN = "same answers"
"""The column of a judge's input that says that both runs have the same answer, for which no judge is needed. No rubric
can name a column with a space in its name."""
_NO_ROW = {"custom_id": None, "response": None}
"""A row that is not sent, since it has no response."""


class JudgeRows:
    """Maps the results of a run to row numbers in the judge's input."""

    def __init__(self, job: CheckedJob, models: list[str]) -> None:
        lanes = models if job.models else []
        self._lane = {model: number for number, model in enumerate(lanes)}
        self._lanes = max(1, len(lanes))
        self._samples = job.samples

    def row_number(self, result: dict[str, Any]) -> int:
        """Return the number of a result. Numbers are in the order of the results.

        In a comparison, a result has two rows: twice this number, and the next one.
        """
        lane = self._lane.get(result["model"], 0)
        number: int = (result["row"] * self._lanes + lane) * self._samples + result["sample"]
        return number


class OtherAnswers:
    """The answers of another run, found by the results of this one. They are in a temporary file, not in memory.

    Answers belong together by custom_id, or by row if the rows have none. If each run has one model, these belong
    together whatever their names.
    """

    def __init__(self, folder: Path, judge: Judge, models: list[str]) -> None:
        run = Layout(folder).read_run()
        self._rename = bool(run and len(run.models) == len(models) == 1)
        self._file = sqlite3.connect("")  # on disk, and gone with the connection
        self._file.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID")
        names = [*RESULT_NAMES, *SCORED_COLUMNS]
        for batch in reader.results(folder, list(dict.fromkeys(names))):
            results = row_values(batch)
            texts = scored_texts(judge, results, run.typed if run else None)
            rows = [(self._key(result), text) for result, text in zip(results, texts, strict=True) if _is_ok(result)]
            # An id that occurs twice finds no partner, since one can't tell which of the two it is.
            self._file.executemany(
                "INSERT INTO answers VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET text = NULL", rows
            )

    def _key(self, result: Mapping[str, Any]) -> str:
        own = result["row"] if result["custom_id"] is None else result["custom_id"]
        return json.dumps([own, None if self._rename else result["model"], result["sample"]])

    def of(self, result: Mapping[str, Any]) -> str | None:
        """Return the other run's answer to a result's row. None if it has none."""
        found = self._file.execute("SELECT text FROM answers WHERE key = ?", (self._key(result),)).fetchone()
        return None if found is None else found[0]

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()


def write_questions(layout: Layout, judge: Judge, job: CheckedJob, other: Path | None, path: Path) -> None:
    """Write a judge's input. `other` is the run to compare with; None if there is none, or if nothing is compared.

    Raises `JobError` or `RunError`.
    """
    run = layout.read_run()
    with atomic_replacement(path, layout.file_mode) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in _rows(layout, judge, job, run, other) if run else ():
            file.write(json.dumps(row) + "\n")


class QuestionFile:
    """The rows of a judge's input, each of which can be read by its number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts = array("Q")
        """Where each row begins."""
        with path.open("rb") as file:
            end = 0
            for line in file:
                self._starts.append(end)
                end += len(line)

    def row(self, number: int) -> dict[str, Any]:
        """Return a row."""
        with self._path.open("rb") as file:
            file.seek(self._starts[number])
            found: dict[str, Any] = json.loads(file.readline())
            return found


def read_questions(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a judge's input."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _rows(layout: Layout, judge: Judge, job: CheckedJob, run: RunFile, other: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a judge's input, for each result up to the last one.

    A row without a response, or without another one to compare it with, is a bad row, which is not sent.
    """
    target = (job.eval or Eval()).target_of(judge)
    reads = rubric_columns(judge, target, run.carried_schema().names)
    numbers, next_number = JudgeRows(job, run.models), 0
    columns = [*RESULT_NAMES, *SCORED_COLUMNS, *reads, *([target] if target is not None else [])]
    with contextlib.ExitStack() as stack:
        others = OtherAnswers(other, judge, run.models) if other else None
        if others:
            stack.callback(others.close)
        for batch in reader.results(layout.root, columns):
            results = row_values(batch)
            for result, text in zip(results, scored_texts(judge, results, run.typed), strict=True):
                number = numbers.row_number(result)
                skipped = number - next_number
                yield from (_NO_ROW for _ in range(skipped * (2 if judge.compares else 1)))
                next_number = number + 1
                row = _row(result, text, reads, target)
                if not judge.compares:
                    yield _with_form(judge, row)
                    continue
                partner = others.of(result) if others else None
                for first, second in ((row["response"], partner), (partner, row["response"])):
                    yield _of_pair(judge, row, first, second)


def _row(result: dict[str, Any], text: str | None, reads: frozenset[str], target: str | None) -> dict[str, Any]:
    values = {name: result[name] for name in reads if name in result}
    if target is not None:
        values["target"] = None if result[target] is None else target_text(result[target])
    return values | {"custom_id": result["custom_id"], "response": text if _is_ok(result) else None}


def _of_pair(judge: Judge, row: dict[str, Any], first: str | None, second: str | None) -> dict[str, Any]:
    """Return the row that shows two answers in this order. It is not sent if one is missing, or if they are equal."""
    if first is None or second is None:
        return row | {"response": None}
    if first == second:
        return row | {"response": None, SAME_COLUMN: True}
    return _with_form(judge, row | {"response": first, "other": second})


def _with_form(judge: Judge, row: dict[str, Any]) -> dict[str, Any]:
    return row if row["response"] is None or judge.form != "nonce" else row | {FORM_COLUMN: form_text(judge, row)}


def _is_ok(result: Mapping[str, Any]) -> bool:
    return bool(result["status"] == Status.OK)
