"""How a run looks at the end of a notebook's cell, and in a script."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchmix.engine import reader
from batchmix.errors import BatchmixError
from batchmix.formats.amounts import counted, usd
from batchmix.formats.arrow_values import is_text, row_values
from batchmix.formats.display import clean
from batchmix.formats.html import Html, joined, tag
from batchmix.formats.text import text_of
from batchmix.load.template import Template
from batchmix.progress.folder_text import checked_text, short_message, state_of
from batchmix.progress.lines import span_text
from batchmix.records import Status
from batchmix.store.view import View

_ANSWERS = 5
"""The number of answers that are shown."""
_MAX_KINDS, _MAX_MODELS = 8, 8
"""The most kinds of failures, and models, that are shown."""
_MAX_CHARS = 240
"""The most characters of an answer, or of another text from outside, that are shown."""
_MAX_PATH = 5_000
"""The most characters of a path or command; no path of a system that batchmix runs on is longer."""
_PAGE = "max-width: 60em; overflow-x: auto; margin: 0.2em 0; line-height: 1.5"
_TABLE = "margin: 0.5em 0; border-collapse: collapse; table-layout: auto"
_CELL = "padding: 0.1em 1.2em 0.1em 0; text-align: left; vertical-align: top"
_NARROW = f"{_CELL}; white-space: nowrap"


def run_repr(folder: Path) -> str:
    """Return a run on one line: its folder, its state, and its figures."""
    try:
        view = reader.look(folder)
    except (BatchmixError, OSError) as error:
        return f"<Run {clean(str(folder))}: {clean(str(error))}>"
    cost = [] if view.totals.cost_usd is None else [usd(view.totals.cost_usd)]
    return f"<Run {clean(str(folder))}: {clean(state_of(view))}, {', '.join(_counts(view) + cost)}>"


def run_html(folder: Path) -> str:
    """Return a run as HTML: figures, the first answers, failures by kind, and how to go on if it is unfinished.

    Reads the totals and the beginning of the results, however many there are. All text from outside is escaped.
    """
    try:
        view = reader.look(folder)
        answers = _first_answers(folder, view)
    except (BatchmixError, OSError) as error:
        return tag("div", tag("b", clean(str(folder))), f": {clean(str(error), 1000)}", style=_PAGE)
    title = tag("div", tag("b", clean(view.run.name)), f": {clean(state_of(view), _MAX_CHARS)}")
    return tag("div", title, _figures(folder, view), answers, _failures(view), _going_on(folder, view), style=_PAGE)


def _counts(view: View) -> list[str]:
    totals = view.totals
    counts = ((totals.failed, "failed"), (totals.rejected, "rejected"), (view.unanswered, "unanswered"))
    return [
        f"{totals.ok:,} of {view.run.results:,} answered",
        *(f"{count:,} {what}" for count, what in counts if count),
    ]


def _figures(folder: Path, view: View) -> Html:
    totals, models, several = view.totals, view.run.models, view.run.results != view.run.rows
    rows = {
        "rows": f"{view.run.rows:,}" + several * f" ({view.run.results:,} results)",
        "answers": ", ".join(_counts(view)),
        **({"checked": checked_text(view.answers)} if view.answers else {}),
        "cost": "unknown" if totals.cost_usd is None else usd(totals.cost_usd),
        "tokens": f"{totals.prompt_tokens:,} in, {totals.completion_tokens:,} out",
        "time": _time(view),
        "models" if len(models) > 1 else "model": _listed(models),
        "folder": tag("code", clean(str(folder), _MAX_PATH)),
    }
    lines = [tag("tr", tag("th", label, style=_NARROW), tag("td", text, style=_CELL)) for label, text in rows.items()]
    return tag("table", *lines, style=_TABLE)


def _listed(models: list[str]) -> str:
    more = len(models) - _MAX_MODELS
    return ", ".join(clean(model, 60) for model in models[:_MAX_MODELS]) + (f" and {more} more" if more > 0 else "")


def _time(view: View) -> str:
    """Return how long it took from the first request to the last result. Empty before the first result."""
    first, last, starts = view.totals.first_sent_ms, view.totals.last_finished_ms, len(view.run.starts)
    if first is None or last is None:
        return ""
    seconds = (last - first) / 1000
    text = f"{seconds:.1f} s" if seconds < 10 else span_text(seconds)
    return text + (f", in {starts} starts" if starts > 1 else "")


def _first_answers(folder: Path, view: View) -> Html:
    """Return a table with the first results, each beside what was asked, or else the ID of its row."""
    asked = _asked_column(folder, view)
    batches = reader.results(folder, {"row", "model", "status", "response", "error_type", asked})
    rows = list(itertools.islice(itertools.chain.from_iterable(map(_first_rows, batches)), _ANSWERS))
    names = ("row", asked, *(["model"] if len(view.run.models) > 1 else []), "response")
    lines = [tag("tr", *(tag("td", _shown(_value(row, name)), style=_CELL) for name in names)) for row in rows]
    head = tag("tr", *(tag("th", clean(name, 60), style=_CELL) for name in names))
    return tag("table", head, *lines, style=_TABLE) if lines else Html()


def _asked_column(folder: Path, view: View) -> str:
    """Return the carried column that says most of what was asked: the first one in the prompt, or the first text."""
    carried = view.run.carried_schema()
    in_prompt = Template(reader.job_of(folder).input).required
    texts = [field.name for field in carried if is_text(field.type)]
    named = [name for name in carried.names if name in in_prompt]
    return next(iter(named + texts + carried.names), "custom_id")


def _first_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    return row_values(batch.slice(0, _ANSWERS))


def _value(row: Mapping[str, Any], name: str) -> Any:
    """Return the value of a row in a column. A row without an answer has its failure in place of the response."""
    if name == "response" and row["status"] != Status.OK:
        return f"{row['status']}: {row['error_type']}"
    return row[name]


def _shown(value: Any) -> str:
    """Return a value from outside on one line, cut if it is long."""
    text = "" if value is None else text_of(value)
    return clean(" ".join(text[: 2 * _MAX_CHARS].split()), _MAX_CHARS)


def _failures(view: View) -> Html:
    """Return a table of the failures: each kind with its count, one of its rows, and that row's message."""
    kinds = sorted(view.totals.failures.items(), key=lambda item: -item[1].count)
    if not kinds:
        return Html()
    names = ("failures", "", "such as row", "message")
    head = tag("tr", *(tag("th", name, style=_CELL) for name in names))
    lines = [
        tag("tr", *(tag("td", text, style=_CELL) for text in (
            clean(kind, 60), f"{of.count:,}", f"{of.row:,}", clean(short_message(of.message, _MAX_CHARS)),
        )))
        for kind, of in kinds[:_MAX_KINDS]
    ]  # fmt: skip
    more = tag("div", f"… and {len(kinds) - _MAX_KINDS} more kinds") if len(kinds) > _MAX_KINDS else ""
    return joined(tag("table", head, *lines, style=_TABLE), more)


def _going_on(folder: Path, view: View) -> Html:
    """Return how to go on with a run of which rows are left. Empty for another."""
    left = view.unanswered + view.totals.failed
    if not left or view.holder is not None:
        return Html()
    shell = tag("code", clean(shlex.join(["batchmix", "resume", str(folder)]), _MAX_PATH))
    python = tag("code", clean(f"bm.open({str(folder)!r}).go_on()", _MAX_PATH))
    return tag("div", f"To send the other {counted(left, 'request')}: ", python, ", or in a shell ", shell)
