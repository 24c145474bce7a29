"""The command `batchmix diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from batchmix.cli.options import LocalPath, verbose_option
from batchmix.cli.output import echo, echo_json, log_to_stderr
from batchmix.cli.ways_out import WaysOut, checked_ways_out, ways_out_options

if TYPE_CHECKING:
    from batchmix.evaluation.comparison import Diff


@click.command("diff")
@click.argument("before", metavar="RUN_A", type=LocalPath())
@click.argument("after", metavar="RUN_B", type=LocalPath())
@click.option("--show", default=5, show_default=True, metavar="N", type=click.IntRange(min=0),
              help="Show N worse and N better answers for each model and scorer.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the diff as JSON.")
@ways_out_options
@verbose_option
def command(before: Path, after: Path, *, show: int, as_json: bool, verbose: int, **options: Any) -> int:
    """Compare two evaluated runs, paired by row and sample.

    The exit code is 1 if a guarded metric ([[eval.guards]] of RUN_B; without guards every score) is significantly worse
    or misses its threshold. The significance level of 0.05 holds for all guarded metrics together.

    \b
    Example:
      batchmix diff runs/nightly-2026-11-22 runs/nightly-2026-11-23
    """
    log_to_stderr(verbose)
    from batchmix.evaluation.comparison import compare_runs

    ways_out = checked_ways_out({**options, "as_json": as_json})
    return print_diff(compare_runs(before, after), show, ways_out, as_json=as_json)


def print_diff(diff: Diff, show: int, ways_out: WaysOut, *, as_json: bool) -> int:
    """Print a comparison of two runs, and write it to files. Return the exit code.

    `show` is the number of worse answers, and of better answers, to print for each model and scorer.
    """
    from batchmix.cli.diff_lines import diff_lines
    from batchmix.evaluation.examples import examples

    chosen = examples(diff, show)
    ways_out.compared(diff, chosen)
    if as_json:
        echo_json(diff_record(diff) | {"examples": msgspec.to_builtins(chosen)})
    elif not ways_out.prints:
        for line in diff_lines(diff, chosen):
            echo(line)
    return 0 if diff.passed else 1


def diff_record(diff: Diff) -> dict[str, Any]:
    """Return a comparison for `--json`. `moved` is the number of changed results, not the list of them."""
    whole: dict[str, Any] = msgspec.to_builtins(diff)
    whole["moved"] = len(diff.moved)
    return whole
