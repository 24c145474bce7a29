"""A plan says how the schema is sent, how answers are asked for again, and what that may cost at most."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchmix.engine.plan import Plan, plan_run
from batchmix.engine.run import Options
from batchmix.job import read_job
from tests.calling import batchmix
from tests.conftest import Bench

SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
LACKING = "the catalogue lists no structured_outputs for it"


@pytest.fixture
def typed(bench: Bench) -> Bench:
    bench.write(12)
    del bench.settings["model"]
    bench.settings |= {
        "models": [{"id": "strict"}, {"id": "plain"}],
        "answer": {"schema": SCHEMA},
        "params": {"max_tokens": 40},
        "provider": {"base_url": "rehearsal:?models=strict,plain&structured_outputs[plain]=false&price=1-2"},
    }
    return bench


def planned(bench: Bench) -> Plan:
    return plan_run(read_job(None, bench.settings, {}), Options())


def command(bench: Bench, name: str, *more: str) -> list[str]:
    models = json.dumps(bench.settings["models"]).replace('":', '" =')
    schema = bench.root / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    settings = {"answer.schema": str(schema), "params.max_tokens": "40", "models": models}
    pairs = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [name, str(bench.source), "--prompt", "Say {{ text }}", "--base-url",
            bench.settings["provider"]["base_url"], "--out", str(bench.out), *pairs, *more]  # fmt: skip


def test_a_plan_says_how_the_schema_is_sent_to_each_model_and_why(typed: Bench) -> None:
    assert [(sent.model, sent.way, sent.why) for sent in planned(typed).schemas] == [
        ("strict", "response_format", "the catalogue lists structured_outputs for it"),
        ("plain", "prompt", LACKING),
    ]
    typed.settings["answer"]["send"] = "tool"
    assert {(sent.way, sent.why, sent.warning) for sent in planned(typed).schemas} == {
        ("tool", "answer.send says so", "")
    }
    typed.settings["answer"] |= {"schema": {"type": "array", "items": {"type": "integer"}}}
    assert {sent.way for sent in planned(typed).schemas} == {"prompt"}


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        ("structured_outputs=false", ["prompt", "prompt"]),
        ("400_schema=1", ["prompt", "prompt"]),
        ("structured_outputs=false&structured_outputs[strict]=true", ["response_format", "prompt"]),
        ("structured_outputs[plain]=false", ["response_format", "prompt"]),
        ("", ["response_format", "response_format"]),
    ],
)
def test_a_rehearsal_without_a_list_of_models_says_too_what_they_lack(
    typed: Bench, options: str, ways: list[str]
) -> None:
    typed.settings["provider"]["base_url"] = f"rehearsal:?{options}"
    found = planned(typed)
    assert [sent.way for sent in found.schemas] == ways
    assert [sent.why == LACKING for sent in found.schemas] == [way == "prompt" for way in ways]
    assert [lane.least_usd is not None for lane in found.lanes] == [
        f"[{lane.model}]" in options for lane in found.lanes
    ]


@pytest.mark.parametrize(
    ("send", "told"),
    [
        ("auto", f"plain: {LACKING}; the schema is sent in the prompt instead"),
        (
            "response_format",
            f"plain: {LACKING}, so it may ignore or refuse the schema in response_format; "
            'answer.send = "auto" would send it in the prompt',
        ),
        ("prompt", ""),
    ],
)
def test_a_run_and_a_plan_warn_of_a_model_that_lacks_structured_outputs(typed: Bench, send: str, told: str) -> None:
    for call in (("plan",), ("run", "--limit", "1", "--progress", "none")):
        done = batchmix(*command(typed, *call, "--set", f"answer.send={send}"))
        assert (told in done.stderr) if told else (LACKING not in done.stderr), done.stderr
        assert "strict: the catalogue" not in done.stderr


def test_a_plan_says_how_often_a_row_may_be_asked_again_and_with_which_limit(typed: Bench) -> None:
    shown = batchmix(*command(typed, "plan", "--set", "answer.repair=2")).stdout
    for text in (
        f"  schema       strict: sent as response_format: the catalogue lists structured_outputs for it\n"
        f"               plain: sent in the prompt: {LACKING}\n",
        "  repairs      an invalid answer is asked for again up to 2 times\n"
        "               one that max_tokens = 40 cuts off is requested once more with 80\n",
        "with all repairs, at most",
    ):
        assert text in shown
    assert "repairs      none" in batchmix(*command(typed, "plan", "--set", "answer.repair=0")).stdout


@pytest.mark.parametrize("kind", ["cut_off_answer=1", "wrong_enum=1", ""])
@pytest.mark.parametrize("repair", [0, 1, 3])
def test_a_run_costs_no_more_than_its_plan_says(typed: Bench, kind: str, repair: int) -> None:
    typed.settings["answer"]["repair"] = repair
    typed.settings["provider"]["base_url"] += f"&max_faults=100&{kind}"
    found = planned(typed)
    totals = typed.run(keep_going=True).totals
    spent = (totals.cost_usd or 0.0) + (totals.billed_retries_usd or 0.0)
    assert 0 < spent < (found.most_usd or 0.0)
    if not repair or not kind:
        assert spent < (found.most_without_repairs_usd or 0.0)
    assert (found.most_usd == found.most_without_repairs_usd) is (repair == 0)


def test_a_job_without_a_schema_has_no_such_lines(bench: Bench) -> None:
    bench.write(1)
    found: dict[str, Any] = planned(bench).as_json()
    assert (found["schemas"], found["repair"]) == ((), None)
