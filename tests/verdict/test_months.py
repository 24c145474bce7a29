"""The trend over the nights of a job: which nights count, what begins anew, and when it is an alarm."""

from __future__ import annotations

import datetime
import json
import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchmix.engine import reader
from batchmix.job import read_job
from batchmix.job.eval_table import Eval
from batchmix.reports.checks import Check, evaluated_run_checks
from batchmix.reports.markdown import markdown
from batchmix.store.run_folder import Layout
from batchmix.verdict.history import past_runs
from batchmix.verdict.months import score_trends
from batchmix.verdict.outcome import Evaluation
from batchmix.verdict.pinned import pin
from batchmix.verdict.verdict_file import ScoreTrend
from batchmix.verdict.versions import dataset_version
from tests.conftest import EvalBench, Provider
from tests.verdict.nights import Nights

COUNT = 20
FIRST = datetime.date(2026, 1, 1)


def guarded(root: Path, standin: Provider) -> Nights:
    made = Nights(root, standin)
    made.settings["eval"]["guards"] = [{"no_worse_by": 1.0}]  # only the trend is looked at
    return made


@pytest.fixture
def nights(tmp_path: Path, standin: Provider) -> Nights:
    return guarded(tmp_path, standin)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, _provider_process: str) -> Path:
    """The folder of a night that was compared with the one before it, of whose rows one in 40 changed."""
    provider = Provider(_provider_process)
    provider.behave()
    made = guarded(tmp_path_factory.mktemp("model"), provider)
    made.night("2025-01-01")
    return made.night("2025-01-02", right=29).folder


def name(number: int) -> str:
    return (FIRST + datetime.timedelta(days=number)).isoformat()


def copies(model: Path, nights: Nights, means: list[float]) -> None:
    """Make a night for each of these mean scores, of 1,000 rows each: copies of the model."""
    for number, mean in enumerate(means):
        nights.out = nights.root / "nights" / name(number)
        shutil.copytree(model, nights.out)
        nights.date(name(number))
        edit(nights.out / "evaluation" / "metrics.json", ["scores", 0, "score"], mean=mean, n=1_000, rows=1_000)
        edit(nights.out / "evaluation" / "metrics.json", ["scores", 0], answered_mean=mean)
        verdict = nights.out / "evaluation" / "verdict.json"
        edit(verdict, ["comparisons", 0, "paired"], low=-0.013, high=0.013)


def edit(path: Path, at: list[str | int], **values: Any) -> None:
    """Change some values of an object in a JSON file."""
    whole = found = json.loads(path.read_text())
    for key in at:
        found = found[key]
    found |= values
    path.write_text(json.dumps(whole))


def falling(step: float, count: int = COUNT) -> list[float]:
    noise = random.Random(3)
    return [0.75 - step * number + noise.gauss(0, 0.004) for number in range(count)]


def found(nights: Nights) -> ScoreTrend:
    job = read_job(None, nights.settings, {})
    [trend] = score_trends(past_runs(nights.root / "nights")[-1], job)
    return trend


def test_a_slow_fall_is_an_alarm_and_no_fall_is_none(model: Path, nights: Nights) -> None:
    copies(model, nights, falling(0.003))
    trend = found(nights)
    assert (trend.alarm, trend.nights) == (True, COUNT)
    assert trend.since > name(2)
    shutil.rmtree(nights.root / "nights")
    copies(model, nights, falling(0.0))
    assert not found(nights).alarm


def test_an_accepted_run_and_another_dataset_begin_the_count_anew(model: Path, nights: Nights) -> None:
    copies(model, nights, falling(0.003))
    pin(nights.root / "nights", "bench", name(12))
    assert found(nights).nights == COUNT - 12
    pin(nights.root / "nights", "bench", None)
    assert found(nights).nights == COUNT - 12  # taking the pin off does not take the acceptance back
    for number in range(15, COUNT):
        edit(nights.root / "nights" / name(number) / "evaluation" / "verdict.json", [], dataset="other")
    assert found(nights).nights == COUNT - 15


def test_tries_runs_by_hand_and_nights_with_failures_do_not_count(model: Path, nights: Nights) -> None:
    copies(model, nights, falling(0.003))
    edit(nights.root / "nights" / name(0) / "run.json", ["starts", 0], is_try=True)
    edit(nights.root / "nights" / name(1) / "run.json", ["starts", 0], scheduled=False)
    edit(nights.root / "nights" / name(2) / "evaluation" / "metrics.json", ["models", 0], answered=0.6)
    assert found(nights).nights == COUNT - 3


def test_the_evaluation_of_a_night_has_the_alarm_of_the_trend(model: Path, nights: Nights) -> None:
    copies(model, nights, falling(0.006))
    last = nights.night(name(COUNT), right=25)
    assert [alarm.kind for alarm in last.alarms] == ["trend"]
    assert last.alarms[0].text.startswith(f"m: includes has been falling over {COUNT + 1} nights: ")
    assert not last.passed
    assert last.verdict.trends == last.trends
    failed = evaluated_run_checks(last)
    assert [check.kind for check in failed.failures] == ["trend"]
    by_hand: Evaluation = nights.night(name(COUNT + 1), right=25, scheduled=False)
    assert by_hand.trends == ()


def test_a_steady_trend_is_a_check_that_passes_and_is_in_the_markdown(nights: Nights) -> None:
    run = evaluated_run_checks(nights.night("2026-01-01"))
    assert run.checks[-1] == Check("m", "trend: includes over 1 night")
    assert "| too few nights | `m` | `includes` | 1 |" in markdown(run)


def test_the_mean_of_a_night_counts_rows_as_their_weight_says_and_only_answered_ones(evaluated: EvalBench) -> None:
    evaluated.settings["input"]["prompt"] = "[[rehearsal:{{ kind }}]] {{ said }}"
    evaluated.settings["eval"]["weight"] = "w"
    said = [("echo", "yes", 3), ("echo", "no", 1), ("400", "yes", 5), ("echo", "yes", 0)]
    evaluated.write_said([{"kind": kind, "said": word, "answer": "yes", "w": w} for kind, word, w in said])
    evaluated.run()
    scored = evaluated.evaluate().scores[0]
    assert (scored.score.mean, scored.answered_mean) == (3 / 9, 0.75)


def test_the_weights_of_rows_belong_to_the_version_of_their_dataset(evaluated: EvalBench) -> None:
    evaluated.write_said([{"said": "yes", "answer": "yes", "one": 1, "w": n, "v": 4 - n} for n in (1, 2, 3)])
    evaluated.run()
    evaluated.evaluate()
    run, layout = reader.run_of(evaluated.out), Layout(evaluated.out)
    settings = read_job(None, evaluated.settings, {}).eval or Eval()
    weights = [dataset_version(layout, msgspec.structs.replace(settings, weight=name), run) for name in ("w", "v")]
    assert len({*weights, dataset_version(layout, settings, run)}) == 3
    assert dataset_version(layout, msgspec.structs.replace(settings, weight="one"), run) == dataset_version(
        layout, settings, run
    )


def rescored(nights: Nights, scorer: dict[str, Any]) -> None:
    """Let the scores be those of another scorer."""
    nights.settings["eval"]["scorers"] = [scorer]
    for past in past_runs(nights.root / "nights"):
        edit(past.folder / "evaluation" / "metrics.json", ["asked"], scorers=[scorer])


def test_a_changed_function_begins_the_count_anew_and_a_judge_of_pairs_has_no_trend(
    model: Path, nights: Nights
) -> None:
    """The scores of either would differ from night to night for another reason than the answers."""
    copies(model, nights, falling(0.003, 10))
    rescored(nights, {"kind": "own", "name": "includes", "python": "polite:polite"})
    for number in range(10):
        code = {"includes": "old" if number < 6 else "new"}
        edit(nights.root / "nights" / name(number) / "evaluation" / "metrics.json", [], code=code)
    assert found(nights).nights == 4
    rubric = "Which is better? A: {{ response }} B: {{ other }}"
    rescored(nights, {"kind": "judge", "name": "includes", "model": "k", "rubric": rubric, "pairwise": True})
    for guard in ({}, {"scorer": "includes"}):
        nights.settings["eval"]["guards"] = [{"no_worse_by": 1.0, **guard}]
        assert score_trends(past_runs(nights.root / "nights")[-1], read_job(None, nights.settings, {})) == ()
