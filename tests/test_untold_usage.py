"""Unreported usage has no known cost, but still counts towards a budget."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchmix.cli.summary import state_lines
from batchmix.engine import reader
from batchmix.engine.account import used_so_far
from batchmix.errors import BudgetSpent, Stopped
from batchmix.store.shard import Shard
from batchmix.store.view import View
from tests.calling import MARKER
from tests.conftest import Bench
from tests.deadlines import deadline_counts_from
from tests.gateway import Gateway

TOLD = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
ANSWER = "x" * 4000
"""A thousand tokens, at four bytes each."""
EACH_USD = (35 * 1 + 1000 * 2) / 1e6
"""The estimate for a request of 140 bytes whose usage is not reported."""


@pytest.fixture
def job(bench: Bench, gateway: Gateway) -> Bench:
    """Rows that cost some $0.002 each at the gateway, a few at a time."""
    bench.settings["provider"] = {"base_url": f"{gateway.url}/v1", "api_key_env": ""}
    bench.settings |= {"prices": {"m": {"input": 1, "output": 2}}, "limits": {"concurrency": 4}}
    bench.write(100, text="w" * 80 + "{:02}")
    gateway.message = {"content": ANSWER}
    return bench


def account(bench: Bench) -> tuple[View, float, float]:
    view = reader.look(bench.out)
    return view, *used_so_far(view, reader.prices_of(view.run))


USAGES: list[Any] = [
    None, [], {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, {"total_tokens": 1},
]  # fmt: skip


@pytest.mark.parametrize("usage", USAGES, ids=str)
def test_a_budget_holds_over_five_starts_although_no_usage_is_reported(
    job: Bench, gateway: Gateway, usage: Any
) -> None:
    """Each start has the same budget, and counts the use of all starts before it."""
    gateway.usage = usage
    job.settings["budget"] = {"max_usd": 0.03}
    let_through = []
    for _ in range(5):
        with pytest.raises(BudgetSpent):
            job.run()
        let_through.append(len(gateway.posts))
    assert 0.7 * 0.03 < let_through[-1] * EACH_USD <= 0.03
    assert len(set(let_through[1:])) == 1, let_through
    view, usd, tokens = account(job)
    assert usd == pytest.approx(view.totals.ok * EACH_USD)
    assert tokens == pytest.approx(view.totals.ok * 1035)
    assert view.summary()["cost_usd"] is None
    assert view.totals.unpriced == view.totals.ok == len(gateway.posts)


def test_a_budget_holds_when_starts_are_killed(job: Bench, gateway: Gateway) -> None:
    """Requests in flight count too: by the average answer, or by their own size if there is no answer."""
    gateway.usage = None
    job.settings["budget"] = {"max_usd": 0.03}
    job.settings["params"] = {"max_tokens": 1000}
    code = (
        "import os, sys\n"
        "from batchmix.engine.run import Options, run_job\n"
        "from batchmix.job import read_job\n"
        "from batchmix.engine.run_status import RunStatus\n"
        "from batchmix.redact import Secrets\n"
        "from batchmix.http.client import Client\n"
        "post, left = Client.post, [int(sys.argv[2])]\n"
        "async def dying(self, request):\n"
        "    exchange = await post(self, request)\n"
        "    left[0] -= 1\n"
        "    return exchange if left[0] else os._exit(9)\n"
        "Client.post = dying\n"
        "run_job(read_job(None, eval(sys.argv[1]), {}), Secrets(), Options(), RunStatus())\n"
    )
    for answers in (1, 3):
        done = subprocess.run([sys.executable, "-c", code, repr(job.settings), str(answers)], check=False)
        assert done.returncode == 9
    # Of the four in flight when a start is killed, some may not have reached the gateway. They count as well.
    not_arrived = account(job)[1] / EACH_USD - len(gateway.posts)
    assert -0.1 <= not_arrived < 2 * 4
    for _ in range(2):
        with pytest.raises(BudgetSpent):
            job.run()
        assert len(gateway.posts) * EACH_USD <= 0.03
        assert (len(gateway.posts) + not_arrived) * EACH_USD >= 0.7 * 0.03


def test_a_budget_counts_unanswered_attempts_over_restarts(bench: Bench) -> None:
    """Without any answer, each counts by the size of its request."""
    bench.write(40)
    bench.standin.behave("cut=1")
    bench.settings |= {"prices": {"m": {"input": 1, "output": 2}}, "limits": {"concurrency": 4}}
    bench.settings |= {"params": {"max_tokens": 1000}, "budget": {"max_usd": 0.03}, "retry": {"attempts": 2}}
    for _ in range(4):
        with pytest.raises(BudgetSpent):
            bench.run()
    assert 10 <= bench.standin.request_count() * 0.002 / 0.03 * 10 + 2 <= 12


def test_the_account_is_the_same_before_and_after_its_shards_are_sealed(job: Bench, gateway: Gateway) -> None:
    gateway.usage = {"total_tokens": 900}
    job.write(12)
    job.settings["output"]["shard_rows"] = 5
    job.run(limit=7)
    _, usd, tokens = account(job)
    prompt = round(900 * 2 - usd * 1e6 / 7)  # at $1 and $2 the less of it, the more is prompt
    assert 10 <= prompt <= 20
    assert tokens == 7 * 900
    job.run()  # the truncated part is written again with its content
    _, whole, tokens = account(job)
    assert whole == pytest.approx(usd / 7 * 12, rel=0.01)
    assert tokens == 12 * 900


def test_a_prompt_too_long_for_its_price_counts_in_the_next_start_too(job: Bench, gateway: Gateway) -> None:
    gateway.usage = TOLD
    job.settings["prices"]["m"]["up_to"] = 999
    job.settings["budget"] = {"max_usd": 0.03}
    for _ in range(3):
        with pytest.raises(BudgetSpent):
            job.run()
    assert 0.8 * 0.03 < len(gateway.posts) * 0.0012 <= 0.03
    assert account(job)[1] == pytest.approx(len(gateway.posts) * 0.0012)


def test_an_answer_joined_from_parts_in_a_journal_contains_no_key(
    job: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped run has answers in its journals, and readers join their parts."""
    monkeypatch.setenv("SOME_KEY", MARKER)
    job.settings["provider"]["api_key_env"] = "SOME_KEY"
    job.settings["budget"] = {"max_tokens": 5000}
    gateway.message = {"content": [{"type": "text", "text": part} for part in ("It is ", MARKER[:8], MARKER[8:])]}
    with pytest.raises(BudgetSpent):
        job.run()
    assert list((job.out / "journal").iterdir())
    reader.export(job.out, job.root / "answers.jsonl")
    answers = [json.loads(line) for line in (job.root / "answers.jsonl").read_text().splitlines()]
    assert {answer["response"] for answer in answers} == {"It is ***"}


def test_embeddings_are_priced_by_their_prompt(bench: Bench, gateway: Gateway) -> None:
    bench.settings["provider"] = {"base_url": f"{gateway.url}/v1", "api_key_env": ""}
    bench.settings |= {"prices": {"m": {"input": 20, "output": 0}}, "input": {"path": str(bench.source)}}
    bench.settings |= {"budget": {"max_usd": 0.05}, "limits": {"concurrency": 1}}
    gateway.usage = {"prompt_tokens": 50, "total_tokens": 50}
    lines = [{"custom_id": f"r{n}", "url": "/v1/embeddings", "body": {"input": "hi"}} for n in range(60)]
    bench.source.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(BudgetSpent):
        bench.run()
    view = reader.look(bench.out)
    assert view.totals.ok in {49, 50}
    assert view.totals.cost_usd == pytest.approx(view.totals.ok * 0.001)
    bench.settings["budget"] = {}
    assert bench.run().totals.ok == 60
    assert {(row["cost_usd"], row["completion_tokens"]) for row in bench.rows()} == {(0.001, 0)}


def test_a_budget_counts_answers_that_were_replaced(job: Bench, gateway: Gateway) -> None:
    gateway.usage = TOLD
    job.write(10)
    job.settings["budget"] = {"max_usd": 0.03}
    job.run()
    for number in range(3):
        job.settings["input"]["prompt"] = f"Say {number} {{{{ text }}}}"
        with contextlib.suppress(BudgetSpent):
            job.run(update=True)
    assert 0.8 * 0.03 < len(gateway.posts) * 0.0012 <= 0.03
    assert account(job)[1] == pytest.approx(len(gateway.posts) * 0.0012)


def test_the_summary_and_status_report_cancelled_requests_alike(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(6)
    bench.standin.behave("hang=1")
    bench.settings |= {"timeouts": {"job_s": 0.3, "drain_s": 0}, "prices": {"m": {"input": 1, "output": 2}}}
    deadline_counts_from(monkeypatch, lambda: bench.standin.request_count() == 6)
    with pytest.raises(Stopped):
        bench.run()
    summary = json.loads((bench.out / "summary.json").read_text())
    assert summary["maybe_billed"] == 6
    assert reader.look(bench.out).summary() == summary


def test_the_table_shows_why_a_cost_is_unknown(job: Bench, gateway: Gateway) -> None:
    gateway.usage = None
    job.write(3)
    job.run()
    lines = "\n".join(state_lines(reader.look(job.out)))
    assert "unknown: 3 answers came without usage" in lines
    gateway.usage = TOLD
    job.write(2, first=3)
    job.run()
    lines = "\n".join(state_lines(reader.look(job.out)))
    assert "$0.0024 (3 answers without a price, 3 of them without usage)" in lines


def test_an_account_counts_an_answer_in_part_and_journal_once(
    job: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the part's rename and the removal of its journals; `dedupe` adds answers at no cost."""
    journals: dict[Path, bytes] = {}
    remove = Shard.remove_journals

    def removing(shard: Shard) -> None:
        journals.update({path: path.read_bytes() for path in (job.out / "journal").glob("*.jsonl")})
        remove(shard)

    monkeypatch.setattr(Shard, "remove_journals", removing)
    gateway.usage = None
    job.settings["reuse"] = {"dedupe": True}
    job.write(8, text="w" * 82)
    job.run()
    assert len(gateway.posts) == 1
    assert account(job)[1:] == pytest.approx((EACH_USD, 1035))
    for path, text in journals.items():
        path.write_bytes(text)
    assert account(job)[1:] == pytest.approx((EACH_USD, 1035))
    job.write(1, first=8, text="other")
    job.run()
    assert account(job)[2] == pytest.approx(2 * 1035, abs=25)
