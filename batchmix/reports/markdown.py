"""The outcome of an evaluation as Markdown, for the summary of a job or a comment on a pull request.

Nothing in it is rendered but what is written here: names are code spans, answers are code blocks, and in sentences all
that Markdown or HTML would take for markup is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from batchmix.comparison.examples import Example, RewrittenAnswer
from batchmix.comparison.metric_text import figures, least_found, metric_name
from batchmix.comparison.run_diff import Diff
from batchmix.comparison.verdicts import Comparison
from batchmix.evaluation.measure import ScoreMetrics
from batchmix.formats.amounts import counted
from batchmix.formats.display import clean
from batchmix.reports.checks import CheckedRun
from batchmix.reports.report_tables import group_name
from batchmix.verdict.verdict_file import ScoreTrend

MARKDOWN_MARK = b"<!-- batchmix -->"
"""What each such file that batchmix has written begins with."""
_MARKUP = re.compile(r"[\\`*_{}\[\]#|~!$]")
_ITEM = re.compile(r"^([0-9]*)([-+=.)])(?=\s|[-= ]*$)")
"""What begins an item of a list, or is a line across the page."""
_PIPE = re.compile(r"(?<!\\)\|")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "`@`", "://": ":\\//", "www.": "www\\."}
_SIGNS = {"worse": "🔴 worse", "not compared": "🔴 not compared", "better": "🟢 better", "same": "same", "": ""}
_MAX_NAME = 100
_MAX_GROUPS = 20
_MAX_CHARS = 1_500
"""The most characters of an answer that are shown."""


def markdown(run: CheckedRun, examples: Sequence[Example | RewrittenAnswer] = ()) -> str:
    """Return the outcome of an evaluation: the alarms, the comparison, the scores, and some answers that changed."""
    failures = run.failures
    state = f"🔴 {counted(len(failures), 'check')} of {len(run.checks):,} failed" if failures else "🟢 passed"
    lines = [MARKDOWN_MARK.decode(), f"## {code(run.name)}: {state}", "", *_about(run), ""]
    if failures:
        lines += [*_failures(run), ""]
    if run.diff is not None:
        lines += _comparison_tables(run.diff)
    if run.metrics is not None:
        scores = [scored for scored in run.metrics.scores if not scored.group]
        lines += table(("model", "scorer", "score", "95 %", "scored", "no score"), map(_score_cells, scores))
    lines += table(("trend", "model", "scorer", "nights", "before", "after"), map(_trend_cells, run.trends))
    for example in examples:
        lines += _example(example)
    return "\n".join(lines).rstrip("\n") + "\n"


def code(text: str) -> str:
    """Return text, shortened, as a code span, in which nothing is markup."""
    shown = clean(text, _MAX_NAME) or " "
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    pad = " " if len(fence) > 1 else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def sentence(text: str) -> str:
    """Return text with all that Markdown, HTML or a mention would be escaped."""
    escaped = _MARKUP.sub(lambda found: f"\\{found[0]}", clean(text, 600).strip())
    escaped = _ITEM.sub(lambda found: f"{found[1]}\\{found[2]}", escaped)
    for plain, safe in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("@", "`@`"),
        ("://", ":\\//"),
        ("www.", "www\\."),
    ):
        escaped = escaped.replace(plain, safe)
    return escaped


def code_block(text: str, language: str = "text") -> str:
    """Return text as a code block, which ends where it ends whatever the text holds."""
    whole = text if len(text) <= _MAX_CHARS else text[:_MAX_CHARS] + "…"
    lines = [clean(line.expandtabs(4), 10 * _MAX_CHARS) for line in whole.splitlines()] or [""]
    fence = "`" * max(3, max(map(len, re.findall("`+", whole)), default=0) + 1)
    return "\n".join([f"{fence}{language}", *lines, fence])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table, whose cells are Markdown already. No lines if there are no rows."""
    lines = [f"| {' | '.join(map(_cell, cells))} |" for cells in rows]
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines, ""] if lines else []


def _cell(text: str) -> str:
    return _PIPE.sub(r"\|", text)


def _about(run: CheckedRun) -> Iterator[str]:
    against = (
        f", compared with {code(run.diff.before)}: {counted(run.diff.paired, 'result')} in pairs" if run.diff else ""
    )
    yield f"{code(str(run.folder))}{against}"


def _failures(run: CheckedRun) -> Iterator[str]:
    for alarm in run.alarms:
        name = f"{code(alarm.model)}: " if alarm.model else ""
        yield f"- **{alarm.kind}**: {name}{sentence(alarm.text.removeprefix(f'{alarm.model}: '))}"
    told = {"rows", "stopped"}
    yield from (f"- **{check.kind}**: {sentence(check.failure)}" for check in run.failures if check.kind in told)


def _comparison_tables(diff: Diff) -> Iterator[str]:
    notes = [*diff.renamed, *(f"left out: {line}" for line in diff.left_out)]
    notes += [f"{diff.changed:,} left out: {diff.why_changed}"] if diff.changed else []
    notes += [f"{diff.unpaired:,} left out: only in one of the runs"] if diff.unpaired else []
    notes += [f"{diff.other_requests:,} with another request"] if diff.other_requests else []
    notes += [f"{counted(diff.rewritten_count, 'answer')} with another text"] if diff.rewritten_count else []
    yield from (f"- {sentence(line)}" for line in notes)
    if notes:
        yield ""
    head = ("", "model", "metric", "before", "after", "difference", "95 %", "p", "detectable")
    yield from table(head, [_comparison_cells(one) for one in diff.comparisons if one.verdict])
    changed = [group for group in diff.groups if group.verdict in {"worse", "better"}]
    yield from table(head, map(_comparison_cells, changed[:_MAX_GROUPS]))
    others = table(head, [_comparison_cells(one) for one in diff.comparisons if not one.verdict])
    if others:
        yield from ["<details><summary>what is not guarded</summary>", "", *others, "</details>", ""]
    if diff.request_changes:
        yield from ["<details><summary>what differs in the requests</summary>", ""]
        lines = (line for change in diff.request_changes for line in (change.heading, *change.lines))
        yield from [code_block("\n".join(lines), "diff"), "", "</details>", ""]


def _comparison_cells(comparison: Comparison) -> tuple[str, ...]:
    found = figures(comparison)
    shown = least_found(comparison)
    return (
        _SIGNS[comparison.verdict],
        code(comparison.model),
        code(f"{metric_name(comparison)}{group_name(comparison.group)}"),
        *(sentence(text) for text in (found.before, found.after, found.difference, found.interval, found.p, shown)),
    )


def _score_cells(scored: ScoreMetrics) -> tuple[str, ...]:
    score = scored.score
    mean = "" if score.mean is None else f"{score.mean:.3f}"
    interval = "" if score.low is None or score.high is None else f"{score.low:.3f} to {score.high:.3f}"
    return code(scored.model), code(scored.scorer), mean, interval, f"{score.n:,}", f"{scored.unscored:,}"


def _trend_cells(trend: ScoreTrend) -> tuple[str, ...]:
    means = ("" if mean is None else f"{mean:.3f}" for mean in (trend.before, trend.after))
    state = "🔴 falling" if trend.alarm else "too few nights" if trend.bound is None else "steady"
    return state, code(trend.model), code(trend.scorer), f"{trend.nights:,}", *means


def _example(example: Example | RewrittenAnswer) -> Iterator[str]:
    if isinstance(example, Example):
        result, scorer = example.moved, f"{code(example.moved.scorer)}, "
        change = f"{example.moved.before:.3g} → {example.moved.after:.3g}"
        model, row = result.model, result.row
    else:
        model, row, scorer, change = example.result.model, example.result.row, "", "another text"
    name = f" ({code(example.custom_id)})" if example.custom_id else ""
    yield f"<details><summary>row {row}: {change}</summary>"
    yield from ["", f"{code(model)}, {scorer}row {row}{name}", ""]
    yield from [
        "before:",
        "",
        code_block(example.before),
        "",
        "after:",
        "",
        code_block(example.after),
        "",
        "</details>",
        "",
    ]
