"""The command `batchmix calibrate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from batchmix.cli.options import LocalPath, RunFolder, verbose_option
from batchmix.cli.output import echo, echo_json, log_to_stderr
from batchmix.cli.tables import cell
from batchmix.formats.amounts import counted

if TYPE_CHECKING:
    from batchmix.evaluation.calibration import Calibration, ScorerCalibration


@click.command("calibrate")
@click.argument("folder", metavar="RUN", type=RunFolder())
@click.argument("labels", metavar="LABELS", type=LocalPath())
@click.option("--column", default="label", show_default=True, metavar="NAME", help="The column with the labels.")
@click.option("--threshold", default=0.5, show_default=True, metavar="SCORE", type=float,
              help="The score from 0 to 1 from which on an answer counts as good.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@verbose_option
def command(folder: Path, labels: Path, **options: Any) -> int:
    """Compare the scores of a run with labels that people gave: how far can a judge be trusted?

    LABELS is CSV, JSONL or Parquet, with a column custom_id or row, a column model if the run has several, and the
    labels: numbers of the judge's scale, its own labels, or words such as good and bad. The exit code is 1 if a
    scorer has no score for any labelled answer.

    \b
    Example:
      batchmix calibrate runs/monday labels.csv
    """
    log_to_stderr(options["verbose"])
    from batchmix.evaluation.calibration import calibrated

    found = calibrated(folder, str(labels), options["column"], options["threshold"])
    if options["as_json"]:
        echo_json(msgspec.to_builtins(found, enc_hook=str))
    else:
        for line in _lines(found):
            echo(line)
    return 0 if all(scorer.n for scorer in found.scorers) else 1


def _lines(found: Calibration) -> Iterator[str]:
    for scorer in found.scorers:
        yield from _scorer_lines(scorer, found.threshold)
        yield ""
    if found.missing_count:
        more = "" if found.missing_count == len(found.missing) else ", …"
        named = "; ".join(cell(key) for key in found.missing)
        yield f"{counted(found.missing_count, 'label')} without such an answer in the run: {named}{more}"


def _scorer_lines(scorer: ScorerCalibration, threshold: float) -> Iterator[str]:
    unscored = f", {scorer.unscored:,} more without a score" if scorer.unscored else ""
    yield f"{cell(scorer.scorer)}: {counted(scorer.n, 'answer')} with a label and a score{unscored}"
    kind = "kappa (weighted)" if scorer.weighted else "kappa"
    yield f"  agreement        {_percent(scorer.agreement)}"
    yield f"  {kind:16} {'unknown' if scorer.kappa is None else f'{scorer.kappa:.3f}'}"
    yield f"  true positives   {_percent(scorer.true_positive_rate)} of the good answers score {threshold:g} or more"
    yield f"  false positives  {_percent(scorer.false_positive_rate)} of the bad ones do"
    if scorer.contradicted is not None:
        yield f"  position bias    {scorer.position_bias or 0:+.1%}; {scorer.contradicted:.1%} of the pairs contradict"
    yield "  label → score    " + ", ".join(
        f"{cell(one.label)} → {cell(one.score)}: {one.count:,}" for one in scorer.confusion
    )


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"
