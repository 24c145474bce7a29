"""The options `--junit` and `--markdown`: the outcome of an evaluation as files for other programs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from batchmix.cli.options import LocalPath
from batchmix.cli.output import echo, redacted_text
from batchmix.errors import UsageError, disk_errors

if TYPE_CHECKING:
    from batchmix.comparison.examples import Example, RewrittenAnswer
    from batchmix.comparison.run_diff import Diff
    from batchmix.reports.checks import Check, CheckedRun
    from batchmix.verdict.outcome import Evaluation

Command = TypeVar("Command", bound=Callable[..., Any])
_STDOUT = Path("-")


def ways_out_options(command: Command) -> Command:
    """Decorate a command with the options that write the outcome of an evaluation to files."""
    markdown = click.option(
        "--markdown", metavar="FILE", type=LocalPath(), help="Write the outcome as Markdown. -: print it instead."
    )
    junit = click.option(
        "--junit", metavar="FILE", type=LocalPath(), help="Write a test case for each guard, as JUnit XML."
    )
    return junit(markdown(command))


class WaysOut(NamedTuple):
    """Where the outcome of an evaluation is written to. None: not in this form."""

    junit: Path | None
    markdown: Path | None

    @property
    def none(self) -> bool:
        """Whether nothing is written."""
        return self == (None, None)

    @property
    def prints(self) -> bool:
        """Whether the Markdown is printed, in place of what the command prints otherwise."""
        return self.markdown == _STDOUT

    def write(self, run: CheckedRun, examples: Sequence[Example | RewrittenAnswer] = ()) -> None:
        """Write the outcome. Raises `Stopped` if a file can't be written."""
        from batchmix.reports.junit import junit_xml
        from batchmix.reports.markdown import markdown

        if self.junit is not None:
            _replace(self.junit, redacted_text(junit_xml(run).decode()))
        if self.markdown is not None:
            text = markdown(run, examples)
            if self.prints:
                echo(text.removesuffix("\n"))
            else:
                _replace(self.markdown, redacted_text(text))

    def evaluated(self, evaluation: Evaluation, others: Sequence[Check] = ()) -> None:
        """Write the outcome of an evaluation, and of `others`, checks that are not about the evaluation."""
        if not self.none:
            from batchmix.reports.checks import evaluated_run_checks

            self.write(evaluated_run_checks(evaluation, others))

    def compared(self, diff: Diff, examples: Sequence[Example | RewrittenAnswer]) -> None:
        """Write the outcome of a comparison."""
        if not self.none:
            from batchmix.reports.checks import compared_run_checks

            self.write(compared_run_checks(diff), examples)

    def without_evaluation(self, folder: Path, check: Check) -> None:
        """Write one check of a run that was not evaluated, so that no older file is taken for its outcome."""
        if not self.none:
            from batchmix.reports.checks import checked_run

            self.write(checked_run(folder, None, None, (), [check]))


def checked_ways_out(options: dict[str, Any]) -> WaysOut:
    """Return where the outcome is written to. Raises `UsageError` if that is one file for both, or not ours."""
    junit, markdown = options["junit"], options["markdown"]
    if junit is None and markdown is None:
        return WaysOut(None, None)
    if junit == _STDOUT:
        raise UsageError("--junit -: the XML is not printed; name a file for it, such as junit.xml")
    if junit is not None and markdown is not None and junit.resolve() == markdown.resolve():
        raise UsageError(f"{junit}: is named by --junit and by --markdown; name two files")
    from batchmix.reports.junit import JUNIT_MARK
    from batchmix.reports.markdown import MARKDOWN_MARK
    from batchmix.store.filesystem import is_ours

    for path, mark in ((junit, JUNIT_MARK), (markdown, MARKDOWN_MARK)):
        if path is None or path == _STDOUT:
            continue
        if not path.parent.is_dir():
            raise UsageError(f"{path}: there is no folder {path.parent}; make it first")
        if not is_ours(path, functools.partial(_is_empty_or_has, mark)):
            raise UsageError(f"{path}: was not written by batchmix; move it away, or name another file")
    if markdown == _STDOUT and options.get("as_json"):
        raise UsageError("--json and --markdown - both print to standard output; name a file for one of them")
    return WaysOut(junit, markdown)


def _is_empty_or_has(mark: bytes, path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(200)
    return not start or mark in start


def _replace(path: Path, text: str) -> None:
    from batchmix.store.filesystem import atomic_replacement

    with disk_errors(path), atomic_replacement(path, None) as temporary:
        temporary.write_text(text, "utf-8")
