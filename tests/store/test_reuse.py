"""Whole answers that another run has paid for are reused at no cost."""

from __future__ import annotations

import json

import pytest

from batchmix.engine import reader
from batchmix.engine.plan import plan_run
from batchmix.engine.run import Options
from batchmix.errors import JobError, ProviderStopped
from batchmix.job import read_job
from tests.conftest import Bench


@pytest.fixture
def yesterday(bench: Bench) -> Bench:
    """A finished run, and a bench set to another folder that may reuse its answers."""
    bench.settings["prices"] = {"m": {"input": 1.0, "output": 2.0}}
    bench.write(25)
    bench.run()
    before = bench.out
    bench.out = bench.root / "today"
    bench.settings["output"] = {"path": str(bench.out), "shard_rows": 7}
    bench.settings["reuse"] = {"from": [str(before)]}
    return bench


def test_requests_with_a_reused_answer_are_not_sent(yesterday: Bench) -> None:
    before = {row["custom_id"]: row for row in yesterday_rows(yesterday)}
    yesterday.write(5, first=25)
    view = yesterday.run()
    assert yesterday.standin.request_count() == 30
    assert (view.totals.ok, view.totals.reused) == (30, 25)
    for row in yesterday.rows()[:25]:
        old = before[row["custom_id"]]
        assert {name: row[name] for name in ("response", "raw", "total_tokens", "finish_reason", "request_hash")} == {
            name: old[name] for name in ("response", "raw", "total_tokens", "finish_reason", "request_hash")
        }
        assert (row["cost_usd"], row["reused_from"], row["attempts"]) == (
            0.0,
            yesterday.settings["reuse"]["from"][0],
            0,
        )
    new = yesterday.rows()[25:]
    assert all(row["reused_from"] is None and row["cost_usd"] > 0 for row in new)
    assert view.totals.total_tokens == sum(row["total_tokens"] for row in new)
    assert view.totals.cost_usd == pytest.approx(sum(row["cost_usd"] for row in new))
    assert reader.look(yesterday.out).summary() == view.summary()


def yesterday_rows(bench: Bench) -> list[dict[str, object]]:
    import pyarrow.parquet as pq

    found: list[dict[str, object]] = pq.read_table(bench.settings["reuse"]["from"][0] + "/data").to_pylist()
    return found


def test_a_resume_keeps_what_was_reused(yesterday: Bench) -> None:
    yesterday.run()
    del yesterday.settings["reuse"]
    yesterday.run()
    assert yesterday.standin.request_count() == 25


def test_changed_requests_and_new_samples_are_sent(yesterday: Bench) -> None:
    yesterday.settings["samples"] = 2
    view = yesterday.run()
    assert (view.totals.ok, view.totals.reused) == (50, 25)
    assert {row["sample"] for row in yesterday.rows() if row["reused_from"]} == {0}
    yesterday.out = yesterday.root / "warm"
    yesterday.settings["output"]["path"] = str(yesterday.out)
    yesterday.settings["params"] = {"temperature": 0.3}
    assert yesterday.run().totals.reused == 0


def test_incomplete_answers_and_failures_are_not_reused(bench: Bench) -> None:
    texts = ["plain", "[[rehearsal:filter]]", "[[rehearsal:400]]", "[[rehearsal:tools]]"]
    bench.source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    bench.run()
    bench.settings["reuse"] = {"from": [str(bench.out)]}
    bench.settings["output"] = {"path": str(bench.root / "today")}
    assert bench.run().totals.reused == 2
    assert bench.standin.request_count() == 6


def test_answers_without_their_raw_body_are_not_reused(yesterday: Bench) -> None:
    yesterday.settings["output"]["raw"] = False
    yesterday.run()
    yesterday.settings["reuse"] = {"from": [str(yesterday.out)]}
    yesterday.settings["output"] = {"path": str(yesterday.root / "tomorrow")}
    assert yesterday.run().totals.reused == 0


def test_a_run_without_answers_has_none_to_reuse(bench: Bench) -> None:
    bench.write(3)
    bench.standin.behave("reject=1")
    bench.run()
    bench.standin.behave("")
    bench.settings["reuse"] = {"from": [str(bench.out)]}
    bench.settings["output"] = {"path": str(bench.root / "today")}
    view = bench.run()
    assert (view.totals.ok, view.totals.reused) == (3, 0)


def test_a_plan_counts_the_requests_that_need_not_be_sent(yesterday: Bench) -> None:
    yesterday.write(5, first=25)
    found = plan_run(read_job(None, yesterday.settings, {}), Options())
    assert (found.reused, found.requests, found.same_draws) == (25, 5, True)
    assert yesterday.standin.request_count() == 25


def test_a_folder_without_a_run_and_the_run_itself_are_refused(yesterday: Bench) -> None:
    for folder, words in {str(yesterday.root): "no run folder", str(yesterday.out): "the run itself"}.items():
        yesterday.settings["reuse"] = {"from": [folder]}
        with pytest.raises(JobError, match=words):
            yesterday.run()
        assert not yesterday.out.exists()


def test_rehearsed_answers_are_not_taken_for_real_ones(yesterday: Bench) -> None:
    yesterday.settings["provider"] = {"base_url": "rehearsal:"}
    with pytest.raises(JobError, match="never mix"):
        yesterday.run()


def test_attempts_maybe_billed_before_a_reuse_stay_in_the_account(yesterday: Bench) -> None:
    reuse = yesterday.settings.pop("reuse")
    yesterday.settings["retry"] = {"attempts": 1}
    yesterday.standin.behave("drop=1")
    with pytest.raises(ProviderStopped):  # it never answers
        yesterday.run(limit=3)
    yesterday.standin.behave()
    yesterday.settings["reuse"] = reuse
    after = yesterday.run(limit=3).totals
    assert (after.reused, after.maybe_billed, after.attempts) == (3, 3, 3)
