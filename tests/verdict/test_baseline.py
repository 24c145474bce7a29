"""Which run a night is compared with: the last good one, a pinned one, and never a try."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchmix.errors import RunError
from batchmix.job import read_job
from batchmix.store.run_folder import Layout
from batchmix.verdict.baseline import check_baseline
from batchmix.verdict.outcome import Evaluation, evaluated, prepared_evaluation
from batchmix.verdict.pinned import pin
from batchmix.verdict.verdict_file import read_verdict
from tests.conftest import Provider
from tests.verdict.nights import Nights


@pytest.fixture
def nights(tmp_path: Path, standin: Provider) -> Nights:
    return Nights(tmp_path, standin)


def compared_with(evaluation: Evaluation) -> str:
    assert evaluation.baseline is not None
    return evaluation.baseline.run


def test_the_first_night_has_no_baseline_yet_and_that_is_no_alarm(nights: Nights) -> None:
    first = nights.night("2026-01-01")
    assert first.baseline is not None
    assert (first.baseline.run, first.baseline.note, first.passed, first.diff) == (
        "",
        "this is the first run",
        True,
        None,
    )


def test_a_lasting_fall_alarms_every_night_until_it_is_accepted(nights: Nights) -> None:
    nights.night("2026-01-01")
    for date in ("2026-01-02", "2026-01-03", "2026-01-04"):
        fallen = nights.night(date, right=12)
        assert (compared_with(fallen), fallen.passed) == ("2026-01-01", False)
        assert {alarm.kind for alarm in fallen.alarms} == {"worse"}
    pin(nights.root / "nights", "bench", "2026-01-04")
    accepted = nights.night("2026-01-05", right=12)
    assert (compared_with(accepted), accepted.passed) == ("2026-01-04", True)
    pin(nights.root / "nights", "bench", None)
    assert compared_with(nights.night("2026-01-06", right=12)) == "2026-01-05"


def test_an_accepted_fall_is_the_baseline_only_until_a_night_is_better(nights: Nights) -> None:
    home = nights.root / "nights"
    nights.night("2026-01-01")
    nights.night("2026-01-02", right=0)
    pin(home, "bench", "2026-01-02")
    recovered = nights.night("2026-01-03")
    assert (compared_with(recovered), recovered.passed) == ("2026-01-02", True)
    fallen = nights.night("2026-01-04", right=0)
    assert (compared_with(fallen), fallen.passed) == ("2026-01-03", False)
    assert fallen.baseline is not None
    assert fallen.baseline.shown == (
        "baseline: 2026-01-03 (last-good); 2026-01-03 was significantly better than the pinned 2026-01-02"
    )
    pin(home, "bench", None)
    assert compared_with(nights.judge()) == "2026-01-03"
    pin(home, "bench", "2026-01-02")  # pinned anew, it is the baseline again
    assert compared_with(nights.judge()) == "2026-01-02"
    del nights.settings["eval"]["against"]
    assert compared_with(nights.judge()) == "2026-01-02"


def test_a_try_a_run_by_hand_and_a_night_with_failures_are_no_baseline(nights: Nights) -> None:
    nights.night("2026-01-01")
    nights.night("2026-01-02", scheduled=False)
    nights.night("2026-01-03", limit=10)
    failed = nights.night("2026-01-04", failed=16)
    assert failed.models[0].answered == 0.6
    assert not failed.passed
    found = nights.night("2026-01-05")
    assert (compared_with(found), found.passed) == ("2026-01-01", True)
    assert found.baseline is not None
    assert "1 later run answered less than 95%" in found.baseline.note
    assert "1 later run was only a try" in found.baseline.note
    assert "1 later run was not started by the scheduler" in found.baseline.note
    nights.settings["eval"]["against"] = "previous"
    assert compared_with(nights.night("2026-01-06")) == "2026-01-05"
    nights.night("2026-01-07", limit=10)
    assert compared_with(nights.night("2026-01-08")) == "2026-01-06"


def test_why_there_is_no_baseline_yet_is_said_of_one_run_or_of_several(nights: Nights) -> None:
    for date in ("2026-01-01", "2026-01-02"):
        nights.night(date, scheduled=False)
    nights.night("2026-01-03", limit=10)
    found = nights.night("2026-01-04").baseline
    assert found is not None
    assert found.shown == (
        "no baseline yet: 2 earlier runs were not started by the scheduler; 1 earlier run was only a try"
    )


def test_without_a_schedule_any_whole_run_counts(nights: Nights) -> None:
    del nights.settings["schedule"]
    nights.night("2026-01-01", scheduled=False)
    assert compared_with(nights.night("2026-01-02", scheduled=False)) == "2026-01-01"


def test_a_night_with_other_rows_is_passed_over_and_if_all_have_others_it_says_so(nights: Nights) -> None:
    nights.night("2026-01-01")
    nights.night("2026-01-02", prefix="x")
    assert compared_with(nights.night("2026-01-03", right=31)) == "2026-01-01"
    other = nights.night("2026-01-04", prefix="y")
    assert compared_with(other) == "2026-01-03"
    assert {alarm.kind for alarm in other.alarms} == {"not compared"}


def test_the_median_of_seven_nights_is_not_the_odd_one(nights: Nights) -> None:
    nights.settings["eval"]["against"] = "median:7"
    nights.settings["eval"]["guards"] = [{"no_worse_by": 1.0}]  # each night is good
    for day, right in enumerate((30, 31, 29, 12, 30, 28, 32), 1):
        nights.night(f"2026-01-0{day}", right=right)
    found = nights.night("2026-01-08")
    assert compared_with(found) in {"2026-01-01", "2026-01-05"}
    assert found.verdict.scores[0].before == 0.75


def test_a_pinned_run_that_is_gone_is_refused_before_anything_is_sent(nights: Nights) -> None:
    nights.night("2026-01-01")
    pin(nights.root / "nights", "bench", "2025-01-01")
    with pytest.raises(RunError, match=r"2025-01-01: the pinned baseline is gone.*batchmix baseline .* --clear"):
        check_baseline(nights.out, read_job(None, nights.settings, {}))
    nights.settings["eval"]["against"] = str(nights.root / "nowhere")
    with pytest.raises(RunError, match=r"nowhere: eval.against is gone"):
        check_baseline(nights.out, read_job(None, nights.settings, {}))


def test_a_file_of_pins_that_is_not_ours_is_left_alone(nights: Nights, tmp_path: Path) -> None:
    (tmp_path / "baselines.json").write_text('{"mine": 1}')
    with pytest.raises(RunError, match="was not written by batchmix"):
        pin(tmp_path, "bench", "a")
    assert (tmp_path / "baselines.json").read_text() == '{"mine": 1}'


def test_the_verdict_says_all_and_a_new_start_makes_it_stale(nights: Nights) -> None:
    nights.night("2026-01-01")
    found = nights.night("2026-01-02", right=12)
    assert read_verdict(Layout(found.folder)) == found.verdict
    text = json.loads((found.folder / "evaluation" / "verdict.json").read_text())
    assert (text["passed"], text["baseline"]["run"], text["against"]) == (False, "2026-01-01", "last-good")
    assert [alarm["kind"] for alarm in text["alarms"]] == ["worse"]
    nights.settings["eval"]["guards"] = [{"no_worse_by": 1.0}]
    assert nights.judge().passed
    nights.run(scheduled=True)
    assert compared_with(nights.night("2026-01-03")) == "2026-01-01"


def test_an_evaluation_that_is_stopped_leaves_no_stale_verdict(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    found = nights.night("2026-01-01")

    def stop(*_: object) -> None:
        raise RunError("stopped")

    monkeypatch.setattr("batchmix.verdict.outcome.evaluate_run", stop)
    with pytest.raises(RunError, match="stopped"):
        nights.judge()
    assert read_verdict(Layout(found.folder)) is None


def test_runs_of_older_versions_are_judged_by_their_metrics(nights: Nights) -> None:
    nights.settings["eval"]["guards"] = [{"min": 0.5}]
    for date, right in (("2026-01-01", 30), ("2026-01-02", 12)):
        found = nights.night(date, right=right)
        (found.folder / "evaluation" / "verdict.json").unlink()
        text = (found.folder / "run.json").read_text()
        (found.folder / "run.json").write_text(text.replace('"scheduled": true', '"scheduled": null'))
    assert compared_with(nights.night("2026-01-03")) == "2026-01-01"


def test_an_evaluation_of_the_run_alone_finds_the_same_baseline(nights: Nights) -> None:
    nights.night("2026-01-01")
    found = nights.night("2026-01-02")
    again = evaluated(prepared_evaluation(found.folder, None, {}, {}))
    assert again.baseline == found.baseline


def test_a_night_is_compared_at_the_level_that_leaves_so_many_false_alarms_in_a_month(nights: Nights) -> None:
    nights.night("2026-01-01")
    found = nights.night("2026-01-02", right=23)  # seven rows fell: p = 1/128
    assert found.verdict.level == pytest.approx(0.15 / 30.44, rel=0.01)
    assert found.passed
    del nights.settings["schedule"]
    found = nights.judge()
    assert (found.verdict.level, found.passed) == (0.05, False)


def test_models_that_a_try_leaves_out_have_no_verdict(nights: Nights) -> None:
    del nights.settings["model"]
    nights.settings["models"] = [{"id": "a"}, {"id": "b"}]
    nights.settings["eval"]["guards"] = [{"min": 0.5}, {"metric": "answered", "model": "b", "min": 1.0}]
    nights.night("2026-01-01")
    found = nights.night("2026-01-02", models=("a",))
    assert (compared_with(found), found.alarms, found.metrics.left_out) == ("2026-01-01", (), ("b",))
    assert {score.model for score in found.verdict.scores} == {"a"}


def test_a_look_at_a_night_with_other_scorers_makes_it_no_baseline(nights: Nights) -> None:
    own = nights.settings["eval"]
    nights.night("2026-01-01")
    assert not nights.night("2026-01-02", right=12).passed
    for other in ({"target": "answer", "scorers": own["scorers"]}, own | {"guards": [{"no_worse_by": 1.0}]}):
        nights.settings["eval"] = other
        assert nights.judge().passed
        nights.settings["eval"] = own
        found = nights.night("2026-01-03", right=12)
        assert (compared_with(found), found.passed) == ("2026-01-01", False)
        nights.out = nights.root / "nights" / "2026-01-02"
    assert found.baseline is not None
    assert "1 later run was last evaluated by other scorers, guards or baseline than its own" in found.baseline.note
    nights.settings["eval"] = own | {"guards": [{"no_worse_by": 1.0}]}  # now the job itself says so
    assert compared_with(nights.night("2026-01-04", right=12)) == "2026-01-02"


def test_a_run_whose_files_are_damaged_is_no_baseline_and_is_named_before_anything_is_sent(nights: Nights) -> None:
    nights.night("2026-01-01")
    nights.night("2026-01-02")
    nights.night("2026-01-03")
    home = nights.root / "nights"
    (home / "2026-01-03" / "evaluation" / "verdict.json").write_text("{}")
    damage(home / "2026-01-02" / "evaluation" / "scores.parquet")
    found = nights.night("2026-01-04")
    assert found.baseline is not None
    assert (found.baseline.run, found.baseline.note) == (
        "2026-01-01",
        "1 later run has files that can't be read; 1 later run has a verdict that can't be read",
    )
    for name in ("2026-01-01", "2026-01-04"):
        damage(home / name / "evaluation" / "scores.parquet")
    job = read_job(None, nights.settings, {})
    with pytest.raises(
        RunError, match=r"no other run can be the baseline: restore this one from a copy, or pin another"
    ):
        check_baseline(home / "2026-01-05", job)
    pin(home, "bench", "2026-01-01")
    with pytest.raises(RunError, match=r"scores\.parquet.*; it is the pinned baseline; restore it from a copy, or pin"):
        check_baseline(home / "2026-01-05", job)


def damage(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
