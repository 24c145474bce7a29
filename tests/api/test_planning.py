"""`bm.plan` says what `bm.run` would send, and sends nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import batchmix as bm
from batchmix.errors import InputError, UsageError
from tests.conftest import Provider

ROWS = [{"text": f"word {number % 5}"} for number in range(10)]
PROMPT = "Say {{ text }}"


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings(standin: Provider) -> dict[str, Any]:
    prices = {"m": {"input": 1.0, "output": 2.0}}
    return {"model": "m", "base_url": standin.url, "params": {"max_tokens": 10}, "prices": prices}


def test_a_plan_has_requests_bounds_and_the_first_request_and_sends_nothing(settings: Any, standin: Provider) -> None:
    plan = bm.plan(iter(ROWS), PROMPT, **settings)  # without a key
    assert (plan.rows, plan.requests, plan.different, plan.done) == (10, 10, 5, 0)
    assert plan.least_usd is not None
    assert plan.most_usd is not None
    assert 0 < plan.least_usd < plan.most_usd < 0.001
    assert plan.first == {"model": "m", "messages": [{"role": "user", "content": "Say word 0"}], "max_tokens": 10}
    assert repr(plan).startswith("<Plan table: 10 rows, 10 requests to send, 5 of them different, 0 done; cost $0.000")
    assert (standin.request_count(), list(Path.cwd().iterdir())) == (0, [])


def test_a_plan_works_under_a_running_loop_and_counts_what_is_done(settings: Any, standin: Provider) -> None:
    settings["provider"] = {"api_key_env": ""}
    bm.run(ROWS, PROMPT, **settings)

    async def planned() -> bm.Plan:
        return bm.plan(ROWS, PROMPT, **settings)

    plan = asyncio.run(planned())
    assert (plan.requests, plan.done) == (0, 10)
    assert standin.request_count() == 10


def test_a_plan_refuses_what_the_run_would_refuse(settings: Any) -> None:
    with pytest.raises(InputError, match=r"missing\.jsonl: no such file"):
        bm.plan("missing.jsonl", PROMPT, **settings)
    with pytest.raises(InputError, match="give bad_rows='reject'"):  # not as an option of the command line
        bm.plan([*ROWS, {"txt": "a"}], PROMPT, **settings)
    with pytest.raises(UsageError, match="canary: sends requests"):
        bm.plan(ROWS, PROMPT, canary=3, **settings)


def test_a_plan_says_what_judges_would_be_asked_and_how_small_a_fall_would_be_found(settings: Any) -> None:
    judge = {"kind": "judge", "model": "m", "rubric": "Rate {{ response }}"}
    plan = bm.plan(ROWS, PROMPT, eval={"scorers": [judge]}, **settings)
    assert [(each.scorer, each.requests) for each in plan.judges] == [("judge", 10)]
    assert [(each.scorer, each.rows) for each in plan.detectable] == [("judge", 10)]
    assert bm.plan(ROWS, PROMPT, **settings).detectable == []
