"""A diff pairs comparable rows, finds what is worse, and reports what it leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from batchmix.cli.tables import metrics_lines
from batchmix.comparison.alarms import comparison_alarms, missed_thresholds
from batchmix.comparison.examples import examples
from batchmix.comparison.metric_text import metric_name
from batchmix.comparison.pair_comparisons import compared_values
from batchmix.comparison.run_diff import Diff, compare_runs
from batchmix.comparison.verdicts import Comparison, left_out_groups, with_verdicts
from batchmix.errors import RunError
from batchmix.evaluation.row_design import RowDesign
from batchmix.job.guards import OF_SCORERS, Guard, Metric, guarded, with_default_guards
from batchmix.statistics.paired import compare, compare_percentile
from batchmix.verdict.history import HISTORY_SCHEMA, past_runs, write_history
from tests.benchmarks.verdicts import DROP, MODELS, PLANTED, first_night, next_night
from tests.conftest import EvalBench


def evaluated_run(bench: EvalBench, name: str, rows: list[dict[str, Any]]) -> Path:
    """Run and evaluate a job whose model answers as the rows say, with the same prompt for each answer."""
    bench.out = bench.root / name
    bench.settings["output"]["path"] = str(bench.out)
    bench.write_said(rows)
    bench.run()
    bench.evaluate()
    return bench.out


def rows(right: list[bool]) -> list[dict[str, Any]]:
    return [
        {"id": f"r{n}", "said": f"number {n}", "answer": str(n) if hit else "nothing"} for n, hit in enumerate(right)
    ]


def put_scores(run: Path, scores: list[float | None]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = run / "evaluation" / "scores.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(5, "score", pa.array(scores, pa.float64())), path)


def two_nights(bench: EvalBench, before: list[float | None], after: list[float | None]) -> Diff:
    made = [evaluated_run(bench, name, rows([True] * len(before))) for name in ("first", "second")]
    put_scores(made[0], before)
    put_scores(made[1], after)
    return compare_runs(*made)


def test_wins_losses_and_ties_are_counted_and_a_clear_drop_is_worse(evaluated: EvalBench) -> None:
    found = two_nights(evaluated, [1.0] * 30 + [0.0] * 10, [0.0] * 12 + [1.0] * 18 + [1.0] * 2 + [0.0] * 8)
    score = found.comparisons[0]
    assert score.paired is not None
    assert (score.paired.wins, score.paired.losses, score.paired.ties) == (2, 12, 26)
    assert score.paired.difference == pytest.approx(-0.25)
    assert score.verdict == "worse"
    assert found.worse == [score]
    assert [(one.row, one.after) for one in found.moved][:2] == [(0, 0.0), (1, 0.0)]
    assert len(found.moved) == 14
    drifts = [(one.metric, one.verdict) for one in found.comparisons if one.metric != "score"]
    assert drifts == [
        ("unscored", "same"),
        ("answered", "same"),
        ("refused", "same"),
        ("empty", "same"),
        ("response_chars", ""),
        ("latency_s", ""),
    ]


def test_the_texts_of_changed_rows_are_shown_side_by_side(evaluated: EvalBench) -> None:
    found = two_nights(evaluated, [1.0, 1.0, 0.0, None], [0.0, 1.0, 1.0, 1.0])
    shown = examples(found, 1)
    assert [(one.moved.row, one.custom_id, one.before, one.after) for one in shown] == [
        (0, "r0", "[[rehearsal:echo]] number 0", "[[rehearsal:echo]] number 0"),
        (2, "r2", "[[rehearsal:echo]] number 2", "[[rehearsal:echo]] number 2"),
    ]
    assert examples(found, 0) == []


def test_rows_whose_target_changed_are_left_out_and_counted(evaluated: EvalBench) -> None:
    before = evaluated_run(evaluated, "first", rows([True] * 6))
    changed = rows([True, True, True, True, True, False])
    changed[0]["said"] = "something else"
    after = evaluated_run(evaluated, "second", [*changed, {"id": "new", "said": "x", "answer": "x"}])
    found = compare_runs(before, after)
    assert (found.paired, found.changed, found.unpaired) == (5, 1, 1)
    assert [one.paired.n for one in found.comparisons if one.paired][:3] == [5, 5, 6]
    assert [one.rows for one in found.comparisons][:3] == [7, 7, 7]


def test_a_changed_scorer_is_left_out_and_named(evaluated: EvalBench) -> None:
    before = evaluated_run(evaluated, "first", rows([True] * 6))
    evaluated.settings["eval"]["scorers"] = [{"kind": "includes", "casefold": False}, {"kind": "exact"}]
    found = compare_runs(before, evaluated_run(evaluated, "second", rows([True] * 6)))
    assert [text.partition(":")[0] for text in found.left_out] == ["scorer includes", "scorer exact"]
    assert [(one.scorer, one.metric) for one in found.not_compared] == [
        ("includes", "score"),
        ("includes", "unscored"),
        ("exact", "score"),
        ("exact", "unscored"),
    ]
    assert {one.metric for one in found.comparisons if one.paired} == {
        "answered", "refused", "empty", "response_chars", "latency_s",
    }  # fmt: skip
    assert not found.passed


def reasons(found: Diff) -> dict[str, str]:
    """Return why each metric, or group, was not compared."""
    return {
        " ".join([one.metric, *(str(value) for value in one.group.values())]): one.reason for one in found.not_compared
    }


def test_rows_too_few_to_show_any_fall_are_not_compared(evaluated: EvalBench) -> None:
    found = two_nights(evaluated, [1.0] * 4, [1.0] * 4)
    assert not found.passed
    assert reasons(found)["score"] == "4 rows can't show a fall: it takes 5 to tell it from chance"
    assert reasons(found)["refused"] == "4 rows can't show a rise: it takes 5 to tell it from chance"
    assert [alarm.kind for alarm in found.alarms] == ["not compared"] * 2
    assert two_nights(evaluated, [1.0] * 5, [1.0] * 5).passed


def test_scores_that_cant_fall_are_not_compared_unless_they_have_risen(evaluated: EvalBench) -> None:
    nothing = [0.0] * 12
    found = two_nights(evaluated, nothing, [1.0, *nothing[1:]])
    reason = "is 0.0000 in all 12 results of the other run, and can't get worse: see whether the scorer and its targets"
    assert reasons(found) == {"score": f"{reason} fit the answers"}
    assert not found.passed
    risen = two_nights(evaluated, nothing, [1.0] * 12)
    assert (risen.passed, [one.metric for one in risen.better]) == (True, ["score"])
    assert two_nights(evaluated, [1.0, *nothing[1:]], nothing).passed
    evaluated.settings["eval"]["guards"] = [{"no_worse_by": 1}]
    assert two_nights(evaluated, nothing, nothing).passed


@pytest.mark.parametrize(("metric", "worst"), [("refused", 1.0), ("answered", 0.0), ("empty", 1.0), ("unscored", 1.0)])
def test_a_share_that_is_at_its_worst_is_not_compared_and_of_a_group_only_named(metric: Metric, worst: float) -> None:
    (found,) = with_verdicts([comparison([worst] * 12, [worst] * 12, metric)], (Guard(metric),))
    assert (found.verdict, "can't get worse" in found.reason) == ("not compared", True)
    group = msgspec.structs.replace(comparison([0.0] * 12, [0.0] * 12), group={"kind": "hard"}, rows=12, worst=0.0)
    named = list(with_verdicts([comparison([1.0] * 12, [1.0] * 12), group], (Guard(),)))
    assert [one.verdict for one in named] == ["same", ""]
    assert list(left_out_groups(named[1:])) == [
        "1 group is at the worst score in the earlier run, and can't fall: kind = hard"
    ]


def test_whatever_has_fallen_in_all_rows_is_never_the_same() -> None:
    for count in range(1, 12):
        for others in range(4):
            fallen = [comparison([1.0] * count, [0.0] * count, model=f"m{n}") for n in range(others + 1)]
            verdicts = {one.verdict for one in with_verdicts(fallen, (Guard(),))}
            assert verdicts == ({"worse"} if (others + 1) / 2**count <= 0.05 else {"not compared"})


def test_few_clusters_and_a_percentile_of_few_rows_can_show_nothing() -> None:
    documents = compare(np.ones(40), np.ones(40), np.arange(40) // 10)
    late = compare_percentile(np.arange(100.0), np.arange(100.0), np.arange(100), 99)
    tested = [
        Comparison("m", "score", "s", documents),
        Comparison("m", "latency_p99", "", late),
    ]
    found = list(with_verdicts(tested, (Guard(), Guard(metric="latency_p99"))))
    assert [(one.verdict, one.reason) for one in found] == [
        ("not compared", "4 independent rows can't show a fall: it takes 5 to tell it from chance"),
        ("not compared", "only 2 of 100 rows can be above this percentile; a rise takes 5"),
    ]


def test_rows_or_clusters_of_which_one_outweighs_all_others_can_show_nothing() -> None:
    weights = np.array([1000.0] + [1.0] * 39)
    before, fallen = np.ones(40), np.array([0.0] + [1.0] * 39)
    clusters = np.maximum(np.arange(40) - 34, 0)
    compared = [
        compare(before, fallen, np.arange(40), weights),
        compare(before, before, clusters),
        compare(before, before, np.arange(40), np.linspace(1, 3, 40)),
    ]
    found = [next(with_verdicts([Comparison("m", "score", "s", one)], (Guard(),))) for one in compared]
    assert [one.reason for one in found] == [
        "40 rows of so uneven weight that they count as 2 can't show a fall: it takes 5 to tell it from chance",
        "6 independent rows of so uneven weight that they count as 2 can't show a fall: it takes 5 to tell it from chance",
        "",
    ]
    assert [one.verdict for one in found] == ["not compared", "not compared", "same"]


def test_no_worsening_of_a_share_beyond_the_whole_is_called_detectable() -> None:
    scores = [np.arange(5.0) % 2, 1 - np.arange(5.0) % 2]
    [share, points] = [
        next(with_verdicts([Comparison("m", "score", "s", compare(*each, np.arange(5)))], (Guard(),)))
        for each in (scores, [10 * one for one in scores])
    ]
    assert (share.verdict, share.detectable) == ("same", None)
    assert points.detectable is not None
    assert points.detectable > 10


def grouped(bench: EvalBench, name: str, kinds: str, **missing: int) -> Path:
    """Run a job with 20 rows of each kind, all right, of which some may be missing or without a target."""
    bench.settings["eval"] |= {"group_by": ["kind"], "min_paired": 0.5}
    made = [
        {"id": f"{kind}{n}", "said": "yes", "answer": "yes", "kind": kind}
        for kind in kinds
        for n in range(20 - missing.get(kind, 0))
    ]
    return evaluated_run(bench, name, made)


def test_a_group_that_is_gone_or_has_lost_its_rows_is_not_compared(evaluated: EvalBench) -> None:
    before = grouped(evaluated, "before", "abcde", e=17)
    gone = compare_runs(before, grouped(evaluated, "gone", "acde", c=12, d=3, e=18))
    why = "of 20 results can be compared with the other run's"
    assert reasons(gone) == {
        "score b": f"none {why}: 20 that only one of the runs has in this group",
        "score c": f"only 8 {why}: 12 that only one of the runs has in this group",
    }
    assert [(alarm.kind, alarm.group) for alarm in gone.alarms] == [("not compared", {"kind": kind}) for kind in "bc"]
    assert gone.left_out == ("1 group is too small to be compared: kind = e",)
    assert [one.verdict for one in gone.groups] == ["same", "not compared", "not compared", "same", ""]
    more = compare_runs(before, grouped(evaluated, "more", "abcdef"))
    assert (more.passed, more.left_out[0]) == (True, "1 group is new, and could not be compared: kind = f")


def test_rows_without_a_target_are_named_and_no_comparison_of_the_others_is_enough(evaluated: EvalBench) -> None:
    made = rows([True] * 30)
    for row in made[8:]:
        row["answer"] = None
    found = compare_runs(*(evaluated_run(evaluated, name, made) for name in ("first", "second")))
    why = "only 8 of 30 results can be compared with the other run's: 22 without a target in the column 'answer'"
    assert reasons(found) == {"score": why, "unscored": why}
    assert [alarm.text for alarm in found.alarms] == [f"m: includes, unscored by includes: {why}"]
    assert "m: 22 results without a target in the column 'answer': includes skips them" in metrics_lines(
        evaluated.evaluate()
    )
    evaluated.settings["eval"]["min_paired"] = 0.2
    assert compare_runs(evaluated_run(evaluated, "enough", made), evaluated.out).passed


def without_ids(questions: list[str], **more: list[Any]) -> list[dict[str, Any]]:
    """Return rows without ids, whose one target is right for all."""
    return [
        {"n": n, "said": f"yes {question}", "answer": "yes"} | {name: values[n] for name, values in more.items()}
        for n, question in enumerate(questions)
    ]


def test_rows_of_another_dataset_are_not_paired_by_their_number(evaluated: EvalBench) -> None:
    questions, others = ([f"{word} {n}" for n in range(20)] for word in ("old", "new"))
    before = evaluated_run(evaluated, "before", without_ids(questions))
    why = "none of 20 results can be compared with the other run's: 20 of another row with the same number"
    note = (
        "20 rows with another row of the same number: their columns 'said' differ; to pair rows wherever they are,"
        " name the column of their ids: [input] id"
    )
    for name, asked in (("other", others), ("shuffled", questions[7:] + questions[:7])):
        found = compare_runs(before, evaluated_run(evaluated, name, without_ids(asked)))
        assert (found.paired, found.unpaired, found.left_out) == (0, 0, (note,))
        assert reasons(found) == dict.fromkeys(["score", "unscored", "answered", "refused", "empty"], why)
    inserted = compare_runs(before, evaluated_run(evaluated, "inserted", without_ids([*questions[:19], "x"])))
    assert (inserted.passed, inserted.paired, inserted.left_out[0][:6]) == (True, 19, "1 row ")


def test_a_column_that_is_new_each_night_does_not_make_other_rows(evaluated: EvalBench) -> None:
    nights = [
        evaluated_run(
            evaluated, night, without_ids([f"q {n}" for n in range(20)], draft=[f"{night}{n}" for n in range(20)])
        )
        for night in ("first", "second")
    ]
    assert compare_runs(*nights).paired == 20


def test_without_columns_in_common_requests_tell_other_rows_unless_the_prompt_has_changed(evaluated: EvalBench) -> None:
    evaluated.settings["input"]["columns"] = []
    evaluated.settings["eval"] = {"scorers": [{"kind": "regex", "pattern": "."}]}
    runs = []
    for name, prompt in (("old", ""), ("new", ""), ("new", "Be kind. ")):
        evaluated.settings["input"]["prompt"] = f"[[rehearsal:echo]] {prompt}{{{{ said }}}}"
        runs.append(evaluated_run(evaluated, f"{name}{prompt[:2]}", without_ids([f"{name} {n}" for n in range(20)])))
    assert [compare_runs(runs[0], later).paired for later in runs] == [20, 0, 20]


def test_a_threshold_of_a_metric_without_a_value_says_what_is_missing(evaluated: EvalBench) -> None:
    made = [row | {"answer": None, "weight": 0} for row in rows([True] * 6)]

    def missed(**settings: Any) -> list[str]:
        evaluated.settings["eval"] = {"target": "answer", "scorers": [{"kind": "includes"}]} | settings
        return [alarm.text for alarm in missed_thresholds(evaluated.evaluate())]

    evaluated.settings["eval"] = {"scorers": [{"kind": "regex", "pattern": "."}]}
    evaluated_run(evaluated, "run", made)
    assert missed() == ["m: unscored by includes: no row has a target in the column 'answer'"]
    (evaluated.root / "labels.csv").write_text("row,label\n99,1\n")
    labels = [{"kind": "labels", "path": str(evaluated.root / "labels.csv")}]
    assert missed(scorers=labels) == ["m: unscored by labels: no label belongs to an answer"]
    guards = [{"metric": "cost_usd", "max": 1}, {"metric": "score", "min": 1}]
    weighted = {"target": "said", "weight": "weight", "guards": guards}
    assert missed(**weighted)[:2] == [
        "m: cost of 1,000: no answer has a known price",
        "m: includes: each row has the weight 0 (eval.weight)",
    ]


def test_latency_whose_pace_was_taken_out_says_so_and_claims_nothing_of_what_is_detectable(
    evaluated: EvalBench,
) -> None:
    evaluated.settings["models"] = [{"id": "m"}, {"id": "other"}]
    del evaluated.settings["model"]
    evaluated.settings["eval"]["guards"] = [{"metric": "latency_s", "no_worse_by": 100}]
    runs = [evaluated_run(evaluated, name, rows([True] * 12)) for name in ("first", "second")]
    found = [one for one in compare_runs(*runs).comparisons if one.metric == "latency_s"]
    assert [(one.verdict in {"same", "better"}, metric_name(one), one.detectable) for one in found] == [
        (True, "latency, pace taken out", None)
    ] * 2


def test_runs_that_are_not_evaluated_or_have_grown_are_refused(evaluated: EvalBench) -> None:
    evaluated.write_said(rows([True] * 4))
    evaluated.run(limit=3)
    with pytest.raises(RunError, match="batchmix eval"):
        compare_runs(evaluated.out, evaluated.out)
    evaluated.evaluate()
    assert compare_runs(evaluated.out, evaluated.out).paired == 3
    evaluated.run()
    with pytest.raises(RunError, match="more results than when it was evaluated"):
        compare_runs(evaluated.out, evaluated.out)


def comparison(before: list[float], after: list[float], metric: Metric = "score", model: str = "m") -> Comparison:
    paired = compare(np.array(before), np.array(after), np.arange(len(before)))
    assert paired is not None
    return Comparison(model, metric, "s" if metric in OF_SCORERS else "", paired)


def test_few_pairs_that_show_a_fall_are_worse_and_say_how_few_they_are() -> None:
    def judged(after: float) -> Comparison:
        few = msgspec.structs.replace(comparison([1.0] * 32, [after] * 32), rows=40, reason="8 without an answer")
        return next(with_verdicts([few], (Guard(),), min_paired=0.9))

    why = "only 32 of 40 results can be compared with the other run's: 8 without an answer"
    assert [(one.verdict, one.reason) for one in map(judged, (0.0, 1.0))] == [("worse", why), ("not compared", why)]
    [alarm] = comparison_alarms([judged(0.0)])
    assert alarm.kind == "worse"
    assert alarm.text.endswith(f"({why})")


def test_guards_set_what_is_tested_and_the_loss_allowed() -> None:
    drop = comparison([1.0] * 40, [0.0] * 10 + [1.0] * 30)
    slower = comparison([1.0] * 40, [2.0] * 40, "latency_s")
    faster = comparison([2.0] * 40, [1.0] * 40, "latency_s", "other")

    def verdicts(*guards: Guard) -> list[str]:
        return [one.verdict for one in with_verdicts([drop, slower, faster], guards)]

    assert verdicts(Guard()) == ["worse", "", ""]
    assert verdicts(Guard(metric="latency_s")) == ["", "worse", "better"]
    assert verdicts(Guard(), Guard(metric="latency_s", model="other")) == ["worse", "", "better"]
    assert verdicts(Guard(no_worse_by=0.3)) == ["same", "", ""]
    assert verdicts(Guard(scorer="another")) == ["", "", ""]


def test_a_guard_takes_the_place_of_the_default_guard_of_what_it_names_and_no_other() -> None:
    fallen = [
        msgspec.structs.replace(comparison([1.0] * 40, [0.0] * 20 + [1.0] * 20, model=model), scorer=scorer)
        for model in ("a", "b")
        for scorer in ("s", "t")
    ]

    def let_pass(*guards: Guard) -> list[str]:
        every = with_default_guards(guards, has_scorers=True)
        return [f"{one.model}{one.scorer}" for one in with_verdicts(fallen, every) if one.verdict == "same"]

    assert let_pass(Guard("latency_s")) == []
    assert let_pass(Guard(no_worse_by=1.0)) == ["as", "at", "bs", "bt"]
    assert let_pass(Guard(scorer="t", no_worse_by=1.0)) == ["at", "bt"]
    assert let_pass(Guard(model="b", no_worse_by=1.0), Guard("unscored", scorer="s")) == ["bs", "bt"]
    unscored = with_default_guards([Guard("unscored", model="a", max=0.5)], has_scorers=True)
    bounds = [
        (guard.max, *names) for guard, *names in guarded(unscored, ["s"], ["a", "b"]) if guard.metric == "unscored"
    ]
    assert sorted(bounds) == [(0.1, "b", "s"), (0.5, "a", "s")]


@pytest.mark.parametrize(("metric", "before", "after", "allowed"), [("score", 1.0, 0.7, 0.5), ("score", 1.0, 0.7, "50%"),
    ("latency_s", 0.02, 0.15, "1000%")])  # fmt: skip
def test_what_a_guard_lets_pass_is_not_called_detectable(
    metric: Metric, before: float, after: float, allowed: float | str
) -> None:
    draw = np.random.default_rng(3)
    later = draw.normal(after, 0.01, 40) if metric == "latency_s" else (np.arange(40) < 40 * after).astype(float)
    guard = Guard(metric, no_worse_by=allowed)
    (found,) = with_verdicts([comparison([before] * 40, list(later), metric)], (guard,))
    assert (found.verdict, found.detectable is not None) == ("same", True)
    assert guard.allowed(before) < (found.detectable or 0.0) < 1.5 * guard.allowed(before)


def test_better_is_shown_with_the_p_value_of_getting_better() -> None:
    rise = comparison([0.0] * 10 + [1.0] * 30, [1.0] * 40)
    (better,) = with_verdicts([rise], (Guard(),))
    assert better.verdict == "better"
    assert better.adjusted_p == pytest.approx(2**-10)


def test_a_group_is_tested_with_a_small_part_of_the_level_and_takes_little_from_the_rest() -> None:
    whole = comparison([1.0] * 400, [0.0] * 7 + [1.0] * 393)
    assert [one.verdict for one in with_verdicts([whole], (Guard(),))] == ["worse"]
    groups = [
        msgspec.structs.replace(
            comparison([1.0] * 20, [0.0] * wrong + [1.0] * (20 - wrong)), group={"kind": f"{wrong}"}
        )
        for wrong in (0, 1, 12)
    ]
    found = list(with_verdicts([whole, *groups], (Guard(),)))
    assert [one.verdict for one in found] == ["worse", "same", "same", "worse"]
    unguarded = list(with_verdicts([whole, *groups], (Guard(metric="answered"),)))
    assert [one.verdict for one in unguarded] == ["", "", "", ""]


def test_what_is_at_its_best_could_get_worse_and_what_is_at_its_worst_could_not() -> None:
    unscored, none_right = comparison([0.0] * 40, [0.0] * 40, "unscored"), comparison([0.0] * 40, [0.0] * 40)
    found = [next(with_verdicts([one], (Guard(metric=one.metric),))).detectable for one in (unscored, none_right)]
    assert found[0] is not None
    assert 0.05 < found[0] < 0.5
    assert found[1] is None


def test_with_a_lower_level_less_is_found_and_more_would_have_to_be_lost() -> None:
    drop = comparison([1.0] * 400, [0.0] * 7 + [1.0] * 393)
    (usual,) = with_verdicts([drop], (Guard(),))
    (nightly,) = with_verdicts([drop], (Guard(),), level=0.005)
    assert (usual.verdict, nightly.verdict) == ("worse", "same")
    assert usual.detectable is not None
    assert nightly.detectable is not None
    assert usual.detectable < nightly.detectable


def test_a_planted_drop_is_found_and_no_other() -> None:
    draw = np.random.default_rng(3)
    found = false = other = 0
    for drop, count in ((DROP, 50), (0.0, 50)):
        for _ in range(count):
            before = first_night(draw)
            after = next_night(draw, before, drop)
            tested = [
                comparison(list(before[:, at]), list(after[:, at]), model=model) for at, model in enumerate(MODELS)
            ]
            worse = {one.model for one in with_verdicts(tested, (Guard(),)) if one.verdict == "worse"}
            found += bool(drop) and PLANTED in worse
            other += bool(drop) and bool(worse - {PLANTED})
            false += not drop and bool(worse)
    assert found >= 43
    assert other <= 6
    assert false <= 7


def test_past_runs_are_found_by_name_and_stored_in_one_file(evaluated: EvalBench) -> None:
    import pyarrow.parquet as pq

    first = evaluated_run(evaluated, "out/first", rows([True, False]))
    second = evaluated_run(evaluated, "out/second", rows([True, True]))
    evaluated.settings["name"] = "another"
    evaluated_run(evaluated, "out/deeper/third", rows([True, True]))
    (evaluated.root / "out" / "broken").mkdir()
    (evaluated.root / "out" / "broken" / "run.json").write_text("{")
    root = evaluated.root / "out"
    assert {past.folder for past in past_runs(root, "bench")} == {first, second}
    assert len(past_runs(root)) == 3
    history = pq.read_table(write_history(root))
    assert history.schema.names == HISTORY_SCHEMA.names
    assert sorted(history.select(["name", "run", "score"]).to_pylist(), key=lambda row: row["run"]) == [
        {"name": "another", "run": "deeper/third", "score": 1.0},
        {"name": "bench", "run": "first", "score": 0.5},
        {"name": "bench", "run": "second", "score": 1.0},
    ]


@pytest.mark.parametrize(("metric", "is_share"), [("score", True), ("answered", True), ("latency_s", False)])
def test_the_interval_of_a_share_ends_where_the_share_does(metric: Metric, *, is_share: bool) -> None:
    values = [np.ones(6), np.repeat([0.0, 1.0], [3, 3])]
    design = RowDesign(np.arange(6), np.repeat([9.0, 1.0], 3))
    paired = compared_values(Comparison("m", metric, "", None), values, design).paired
    assert paired is not None
    assert paired.low is not None
    assert paired.low == -1 if is_share else paired.low < -1
