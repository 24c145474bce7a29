"""`[reuse] dedupe = true`: rows of a job with the same request are sent once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.engine import dedupe
from batchmix.engine.plan import plan_run
from batchmix.engine.run import Options
from batchmix.errors import BatchmixError, JobError, ProviderStopped
from batchmix.job import read_job
from batchmix.store.first_rows import FirstRows
from tests import killing
from tests.conftest import Bench


@pytest.fixture
def twice(bench: Bench) -> Bench:
    bench.settings |= {"reuse": {"dedupe": True}, "prices": {"m": {"input": 1.0, "output": 2.0}}}
    return bench


def write(bench: Bench, texts: list[str]) -> None:
    rows = ({"id": f"r{number}", "text": text} for number, text in enumerate(texts))
    bench.source.write_text("".join(json.dumps(row) + "\n" for row in rows))


def check(bench: Bench, texts: list[str]) -> None:
    """Check that each row has its text's answer, and that only the first row of each text was paid for."""
    rows = bench.rows()
    assert [row["text"] for row in rows] == texts
    assert {row["status"] for row in rows} == {"ok"}
    answers: dict[str, dict[str, object]] = {}
    for row in rows:
        first = answers.setdefault(row["text"], row)
        assert [row[name] for name in ("response", "raw", "completion_tokens", "served_model")] == [
            first[name] for name in ("response", "raw", "completion_tokens", "served_model")
        ]
        if first is row:
            assert row["reused_from"] is None
            assert row["cost_usd"] > 0
        else:
            assert (row["reused_from"], row["cost_usd"], row["attempts"]) == ("bench", 0.0, 0)


@pytest.mark.parametrize("latency", ["0", "0.05-0.1"])
def test_rows_with_the_same_request_are_sent_once_across_shards(twice: Bench, latency: str) -> None:
    twice.standin.behave(f"latency={latency}")
    texts = [f"word {number * number % 23}" for number in range(100)]
    write(twice, texts)
    view = twice.run()
    assert twice.standin.request_count() == len(set(texts))
    check(twice, texts)
    assert view.totals.reused == 100 - len(set(texts))
    assert view.totals.cost_usd == pytest.approx(sum(row["cost_usd"] for row in twice.rows()))
    twice.run()
    assert twice.standin.request_count() == len(set(texts))


def test_without_dedupe_each_row_is_sent(bench: Bench) -> None:
    write(bench, ["same"] * 20)
    bench.run()
    assert bench.standin.request_count() == 20


def test_a_later_start_reuses_the_answers_of_earlier_starts(twice: Bench) -> None:
    """Their answers are in sealed shards, in open ones, and in shards that were sealed before the start."""
    texts = [f"word {number % 4}" for number in range(45)]
    write(twice, texts)
    twice.run(limit=15)
    twice.run(limit=33)
    twice.run()
    assert twice.standin.request_count() == 4
    check(twice, texts)


def test_sample_n_of_a_row_reuses_sample_n_of_another(twice: Bench) -> None:
    twice.settings["samples"] = 3
    write(twice, ["same", "other", "same", "same"] * 8)
    twice.standin.behave("stable=false")
    twice.run()
    rows = twice.rows()
    assert twice.standin.request_count() == 6
    for sample in range(3):
        assert len({row["raw"] for row in rows if row["text"] == "same" and row["sample"] == sample}) == 1
    assert len({row["raw"] for row in rows}) == 6


def test_answers_are_not_shared_between_models(twice: Bench) -> None:
    del twice.settings["model"]
    twice.settings["models"] = [{"id": "m"}, {"id": "n"}, {"id": "m", "name": "again"}]
    write(twice, ["same"] * 25)
    twice.run()
    assert twice.standin.request_count() == 3
    assert Counter((row["model"], row["reused_from"]) for row in twice.rows()) == {
        (model, run): count for model in ("m", "n", "again") for run, count in ((None, 1), ("bench", 24))
    }


def test_waiting_rows_fail_with_the_first_row_and_are_retried_by_the_next_start(twice: Bench) -> None:
    twice.settings["retry"] = {"attempts": 2}
    twice.standin.behave("latency=0.2")
    write(twice, ["fine", *["[[rehearsal:500x2]] ill"] * 6])
    twice.run()
    rows = twice.rows()
    assert Counter(row["status"] for row in rows) == {"ok": 1, "failed": 6}
    assert len({(row["error_type"], row["error_message"]) for row in rows[1:]}) == 1
    assert twice.standin.request_count() == 3
    twice.run()
    assert {row["status"] for row in twice.rows()} == {"ok"}
    assert twice.standin.request_count() == 4


def test_a_rejection_of_the_first_row_rejects_all_waiting_rows(twice: Bench) -> None:
    twice.standin.behave("latency=0.2")
    write(twice, ["fine", *["[[rehearsal:reject]] ill"] * 6])
    twice.run()
    assert Counter(row["status"] for row in twice.rows()) == {"ok": 1, "rejected": 6}
    assert twice.standin.request_count() == 2


def test_withheld_rejections_do_not_block_other_rows(twice: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading continues although the most rows wait, if no request in flight can release them."""
    monkeypatch.setattr(dedupe, "_MAX_WAITING", 5)
    write(twice, [f"[[rehearsal:reject]] {number % 3}" for number in range(60)])
    twice.run()
    assert {row["status"] for row in twice.rows()} == {"rejected"}


def test_no_more_rows_are_read_than_may_wait(twice: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "_MAX_WAITING", 200)
    most = []
    firsts = dedupe.DedupingLog.firsts

    def watched(self: dedupe.DedupingLog, *asked: list[object]) -> list[object]:
        most.append(self._waiting)
        return firsts(self, *asked)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(dedupe.DedupingLog, "firsts", watched)
    twice.settings["output"] = {"path": str(twice.out), "shard_rows": 1000}
    twice.standin.behave("latency=0.1")
    texts = [f"word {number // 500}" for number in range(3000)]
    write(twice, texts)
    twice.run()
    assert twice.standin.request_count() == 6
    check(twice, texts)
    assert 0 < max(most) < 200


def test_a_stopped_run_resumes_and_sends_no_answered_request_again(twice: Bench) -> None:
    """The balance runs out halfway; afterwards answered requests are not sent again, and waiting rows get their answer."""
    texts = [f"word {number % 40}" for number in range(200)]
    write(twice, texts)
    twice.standin.behave("balance=13&latency=0.01")
    with pytest.raises(BatchmixError):
        twice.run()
    answered = sum(prompt is not None for prompt in twice.standin.prompts())
    assert answered >= 13
    twice.standin.behave()
    before = twice.standin.request_count()
    twice.run()
    assert twice.standin.request_count() - before == 40 - 13
    check(twice, texts)


def test_no_answered_request_is_sent_again_after_kills(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    rows = ({"text": f"question {number * number % 601}", "n": number} for number in range(2000))
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = [
        "--concurrency",
        "60",
        "--set",
        "output.shard_rows=300",
        "--set",
        "name=kills",
        "--set",
        "reuse.dedupe=true",
    ]
    with killing.provider("latency=0.1-0.3&seed=7") as url:
        outs = tmp_path / "whole", tmp_path / "killed"
        calls = [[killing.command(url, source, out, *more)] for out in outs]
        killing.kill_until_done(calls[0], url, outs[0], 0, wait=(60, 60))
        assert killing.fetch(url, "totals")["requests"] == 301
        killing.fetch(url, "reset", "")
        outcome = killing.kill_until_done(calls[1], url, outs[1], 3, wait=(1.0, 1.7))
    assert outcome.kills
    assert not outcome.repeated
    assert killing.results(outs[1]).equals(killing.results(outs[0]))


def test_a_changed_row_is_sent_and_the_others_keep_their_answer(twice: Bench) -> None:
    write(twice, ["same"] * 30)
    twice.run()
    write(twice, ["new", *["same"] * 29, "same", "new"])
    twice.run(update=True)
    rows = twice.rows()
    assert twice.standin.request_count() == 2
    assert {row["status"] for row in rows} == {"ok"}
    assert rows[0]["raw"] == rows[31]["raw"] != rows[1]["raw"] == rows[30]["raw"]
    assert rows[0]["request_hash"] == rows[31]["request_hash"] != rows[1]["request_hash"] == rows[30]["request_hash"]


def test_a_plan_counts_the_requests_that_need_not_be_sent(twice: Bench) -> None:
    texts = [f"word {number % 4}" for number in range(45)]
    write(twice, texts)
    found = plan_run(read_job(None, twice.settings, {}), Options())
    assert (found.requests, found.repeated) == (4, 41)
    twice.run(limit=2)
    found = plan_run(read_job(None, twice.settings, {}), Options())
    assert (found.done, found.requests, found.repeated) == (2, 2, 41)


def test_a_canary_draws_distinct_requests_and_counts_them(twice: Bench) -> None:
    write(twice, [f"word {number % 20}" for number in range(200)])
    twice.run(canary=10)
    assert twice.standin.request_count() == 10
    run = json.loads((twice.out / "run.json").read_text())
    assert run["canary"]["m"]["rows"] == 20
    twice.run()
    assert twice.standin.request_count() == 20


def test_dedupe_needs_the_raw_bodies(twice: Bench, tmp_path: Path) -> None:
    twice.settings["output"]["raw"] = False
    write(twice, ["same"])
    with pytest.raises(JobError, match=r"reuse\.dedupe"):
        twice.run()


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 2**64, 2**127 + 1])), max_size=3000))
def test_first_rows_agree_with_a_dictionary(asked: list[tuple[int, int]]) -> None:
    """With many hashes that start at the same slot, and a table that grows."""
    found, firsts = FirstRows(), dict[str, int]()
    for row, (number, base) in enumerate(asked * 3):
        hash_ = f"{base + number * 1024 + (row // 2) * 2**20:032x}"
        assert found.first(hash_, row) == firsts.setdefault(hash_, row)
    for hash_, row in firsts.items():
        assert found.first(hash_, -7) == row


def test_a_request_is_sent_once_in_a_start_of_some_models_too(twice: Bench) -> None:
    """Shards in which other models have open rows stay unsealed; their answers are found nevertheless."""
    del twice.settings["model"]
    twice.settings["models"] = [{"id": "m"}, {"id": "n"}]
    write(twice, ["same"] * 10)
    twice.run(models=("m",))
    write(twice, ["same"] * 400)
    twice.run(models=("m",))
    assert twice.standin.request_count() == 1


def test_one_row_is_retried_of_those_that_failed_together_in_one_sample(twice: Bench) -> None:
    twice.settings |= {"samples": 2, "retry": {"attempts": 1}, "limits": {"concurrency": 1}}
    write(twice, ["[[rehearsal:500x1]] same"] * 6)
    twice.standin.behave("latency=0.2")
    twice.run()
    assert Counter((row["sample"], row["status"]) for row in twice.rows()) == {(0, "failed"): 6, (1, "ok"): 6}
    twice.run()
    assert {row["status"] for row in twice.rows()} == {"ok"}
    assert twice.standin.request_count() == 3


def test_a_row_takes_an_existing_answer_although_the_first_row_was_rejected(twice: Bench) -> None:
    """Two rows with the same request had no answer and a third had one, in a run without dedupe."""
    text = "[[rehearsal:rejectx1]] [[rehearsal:500x2]] same"
    texts = [text, text, *(f"word {number}" for number in range(300)), text]
    twice.settings |= {"retry": {"attempts": 1}, "limits": {"concurrency": 1}, "reuse": {"dedupe": False}}
    twice.settings["output"]["shard_rows"] = 1000
    write(twice, texts)
    twice.run()
    assert [twice.rows()[row]["status"] for row in (0, 1, 302)] == ["rejected", "failed", "ok"]
    twice.settings["reuse"] = {"dedupe": True}
    twice.run()
    assert [twice.rows()[row]["status"] for row in (0, 1, 302)] == ["rejected", "ok", "ok"]
    assert twice.standin.request_count() == len(texts)


def test_an_answer_in_a_later_shard_is_found(twice: Bench) -> None:
    text = "[[rehearsal:500x1]] same"
    texts = [text, *(f"word {number}" for number in range(9)), text, "more", "[[rehearsal:401x1]] stop", "rest"]
    twice.settings |= {"retry": {"attempts": 1}, "limits": {"concurrency": 1}, "reuse": {"dedupe": False}}
    write(twice, texts)
    with pytest.raises(ProviderStopped):
        twice.run()
    assert len(list((twice.out / "data").iterdir())) == 1
    twice.settings["reuse"] = {"dedupe": True}
    twice.run()
    assert {row["status"] for row in twice.rows()} == {"ok"}
    assert twice.standin.prompts().count(f"Say {text}") == 2
