"""The command `batchmix diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from batchmix.cli.options import RunFolder, verbose_option
from batchmix.cli.output import echo, echo_json, log_to_stderr
from batchmix.cli.ways_out import WaysOut, checked_ways_out, ways_out_options

if TYPE_CHECKING:
    from batchmix.comparison.examples import Example, RewrittenAnswer
    from batchmix.comparison.run_diff import Diff


if TYPE_CHECKING:
    _ModelPairType = click.ParamType[tuple[str, str]]
else:  # click 8.2 has no types at run time
    _ModelPairType = click.ParamType


class ModelPair(_ModelPairType):
    """A model's names in two runs, as `OLD=NEW`."""

    name = "pair"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the two names."""
        if isinstance(value, tuple):
            return value[0], value[1]
        old, _, new = str(value).partition("=")
        if not old or not new:
            self.fail(f"{value!r} must be OLD=NEW, two names of models, such as gpt-4o=gpt-4o-mini", param, ctx)
        return old, new


@click.command("diff")
@click.argument("before", metavar="RUN_A", type=RunFolder())
@click.argument("after", metavar="RUN_B", type=RunFolder())
@click.option("--as", "models", multiple=True, metavar="OLD=NEW", type=ModelPair(),
              help="Compare the model NEW of RUN_B with OLD of RUN_A, even in the same run. Repeatable.")  # fmt: skip
@click.option("--same-request", is_flag=True, help="Compare only results whose requests are the same.")
@click.option("--show", default=5, show_default=True, metavar="N", type=click.IntRange(min=0),
              help="Show N worse and N better answers for each model and scorer.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the diff as JSON.")
@ways_out_options
@verbose_option
def command(before: Path, after: Path, **options: Any) -> int:
    """Compare two runs, paired by custom_id (or else row) and sample.

    The exit code is 1 if a guarded metric (each score, and [[eval.guards]] of RUN_B) is significantly worse, could not
    be compared, or misses its threshold. The significance level of 0.05 holds for all guarded metrics
    together. Results are compared if their targets are the same; the requests may differ.

    \b
    Examples:
      batchmix diff runs/nightly-2026-11-22 runs/nightly-2026-11-23
      batchmix diff runs/models runs/models --as gpt-4o=gpt-4o-mini
    """
    log_to_stderr(options["verbose"])
    from batchmix.comparison.pairing import Pairing
    from batchmix.comparison.run_diff import compare_runs

    ways_out = checked_ways_out(options)
    pairing = Pairing(options["models"], options["same_request"])
    diff = compare_runs(before, after, pairing)
    return print_diff(diff, options["show"], ways_out, as_json=options["as_json"])


def print_diff(diff: Diff, show: int, ways_out: WaysOut, *, as_json: bool) -> int:
    """Print a comparison of two runs, and write it to files. Return the exit code.

    `show` is the number of worse answers, and of better answers, to print for each model and scorer.
    """
    from batchmix.cli.diff_lines import diff_lines
    from batchmix.comparison.examples import examples, rewritten_answers

    chosen: list[Example | RewrittenAnswer] = [*examples(diff, show), *rewritten_answers(diff, show)]
    ways_out.compared(diff, chosen)
    if as_json:
        echo_json(diff_record(diff) | {"examples": msgspec.to_builtins(chosen)})
    elif not ways_out.prints:
        for line in diff_lines(diff, chosen):
            echo(line)
    return 0 if diff.passed else 1


def diff_record(diff: Diff) -> dict[str, Any]:
    """Return a comparison for `--json`. `moved` and `rewritten` are the numbers of changed results, not lists."""
    whole: dict[str, Any] = msgspec.to_builtins(diff)
    del whole["rewritten_count"]
    return whole | {"moved": len(diff.moved), "rewritten": diff.rewritten_count, "passed": diff.passed}
