"""What `batchmix plan` prints: what is left to send, what is not sent and why, and what it costs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.calling import called
from tests.conftest import Bench

JOB = """
model = "m"
[input]
path = "rows.jsonl"
prompt = "Say {{ text }}"
[provider]
base_url = "URL"
api_key_env = ""
[output]
path = "run"
[reuse]
dedupe = true
[limits]
requests_per_minute = 6
"""
JUDGE = """
[[eval.scorers]]
kind = "judge"
name = "grade"
model = "big"
rubric = "Rate {{ response }}."
"""


@pytest.fixture
def job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a job over rows of which two are the same and one is bad; return its path."""
    monkeypatch.chdir(bench.root)
    write(bench, [{"text": text} for text in ("same", "same", "other", "more")] + [{"no text": ""}])
    (bench.root / "job.toml").write_text(JOB.replace("URL", bench.standin.url))
    return "job.toml"


def write(bench: Bench, rows: list[dict[str, Any]]) -> None:
    bench.source.write_text("".join(json.dumps(row) + "\n" for row in rows))


def planned(monkeypatch: pytest.MonkeyPatch, *call: str) -> list[str]:
    done = called(monkeypatch, "plan", *call)
    assert done.returncode == 0, done.stderr
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


def test_it_says_what_is_sent_and_what_is_not(job: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = planned(monkeypatch, job, "--bad-rows", "reject")
    assert lines[:5] == [
        "job: 5 rows, 5 requests in all",
        "repeated 1 use the answer of an earlier row with the same request",
        "(temperature is not 0: these answers are repeated, not sampled again)",
        "to send 3, 3 of them different",
        "rejected 1 result without a request, such as row 4: rows.jsonl:5: has no column 'text', which the template names;"
        """ it has 'no text'; for 'no text' write {{ row["no text"] }}""",
    ]
    assert "time at least 30 s by the configured limits" in lines
    assert '"content": "Say same"' in lines
    assert bench.standin.request_count() == 0


def test_it_says_what_is_done_and_what_that_leaves(job: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write(bench, [{"text": text} for text in ("same", "other", "same", "more")])
    call = (job, "--set", "limits.requests_per_minute=6000")
    assert called(monkeypatch, "run", *call, "--limit", "2", "--progress", "none").returncode == 0
    lines = planned(monkeypatch, *call)
    assert lines[1:3] == ["done already 2", "repeated 1 use the answer of an earlier row with the same request"]
    assert "to send 1" in lines


@pytest.mark.parametrize("answer", [(), ("--set", "answer.schema={type=['string', 'null']}")])
def test_of_a_finished_run_nothing_is_said_that_concerns_requests(
    answer: tuple[str, ...], job: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bench, [{"messages": [{"role": "user", "content": "x"}], "seed": 1}])
    judge = JUDGE.replace("Rate {{ response }}.", "[[rehearsal:echo]] {{ response }} score: 1")
    settings = f'[output]\npath = "run"\n[limits]\nrequests_per_minute = 6\n[prices.m]\ninput = 1\noutput = 2{judge}'
    bench.root.joinpath(job).write_text(f'model = "m"\ninput.path = "rows.jsonl"\n{settings}')
    call = (job, "--base-url", "rehearsal:?structured_outputs=false", *answer)
    before = called(monkeypatch, "plan", *call)
    named = ["own params", "to send", "tokens", "cost", "judging", "time", "folder", "First request"]
    assert [name for name in named if name in before.stdout] == named, before.stderr
    assert ("schema" in before.stdout, "repairs" in before.stdout, "warning" in before.stderr) == (bool(answer),) * 3
    assert called(monkeypatch, "run", *call, "--progress", "none").returncode == 0
    after = called(monkeypatch, "plan", *call)
    names = [" ".join(line.split()[:2]) for line in after.stdout.splitlines()[1:]]
    assert names == ["done already", "to send", f"folder {bench.root / 'run'}"]
    assert after.stderr == ""
    assert json.loads(called(monkeypatch, "plan", *call, "--json").stdout)["most_usd"] == 0


def test_answers_of_other_runs_and_the_order_of_samples_are_named(
    job: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bench, [{"text": "same"}, {"text": "other"}])
    call = (job, "--set", "samples=2", "--set", "limits.requests_per_minute=6000")
    assert called(monkeypatch, "run", *call, "--limit", "1", "--progress", "none").returncode == 0
    lines = planned(monkeypatch, *call, "--set", 'reuse.from=["run"]', "--out", "other")
    assert lines[1:5] == [
        "reused 2 answers of other runs, at no cost",
        "(temperature is not 0: these answers are repeated, not sampled again)",
        "(samples: the n-th answer of a row is used for the n-th of the other)",
        "to send 2, 1 of them different",
    ]


def test_the_parameters_that_rows_set_are_named(job: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [{"role": "user", "content": "x"}]
    write(bench, [{"messages": messages, "temperature": 0}, {"messages": messages, "seed": 1}])
    bench.root.joinpath(job).write_text(JOB.replace("URL", bench.standin.url).replace('prompt = "Say {{ text }}"', ""))
    lines = planned(monkeypatch, job)
    assert "own params seed, temperature, of each row (--set input.params='' leaves them out)" in lines


@pytest.mark.parametrize(
    ("more", "cost"),
    [
        ("", "no price is known"),
        ("[prices.big]\ninput = 0\noutput = 1_000_000", "about $5.0000 and more"),
        ("params = {max_tokens = 2}\n[prices.big]\ninput = 0\noutput = 1_000_000", "about $5.0000 to $10.0000"),
    ],
)
def test_what_judging_costs_is_named(
    more: str, cost: str, job: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.root.joinpath(job).write_text(bench.root.joinpath(job).read_text() + JUDGE + more)
    lines = planned(monkeypatch, job, "--bad-rows", "reject", "--set", "params.max_tokens=5")
    [judging] = [line for line in lines if line.startswith("judging")]
    assert judging == f"judging at most 5 requests to big (grade), {cost}"


SCORED = """
[eval]
target = "answer"
[[eval.scorers]]
kind = "includes"
"""


def test_it_says_how_small_a_fall_the_evaluation_could_find(
    job: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bench, [{"text": f"{n}", "answer": f"{n % 10}"} for n in range(40)])
    bench.root.joinpath(job).write_text(bench.root.joinpath(job).read_text() + SCORED)
    assert "would find a fall of includes of m by 30 points, 4 times of 5 (at worst)" in planned(monkeypatch, job)
    [fall] = json.loads(called(monkeypatch, "plan", job, "--json").stdout)["detectable"]
    assert fall == {"model": "m", "scorer": "includes", "rows": 40, "fall": pytest.approx(0.3, abs=0.005), "run": ""}
    line = "would find no fall of includes of m: 3 rows are too few"
    assert line in planned(monkeypatch, job, "--limit", "3")


def test_with_a_run_of_the_job_it_says_what_that_one_varied(
    job: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bench, [{"text": f"{n}", "answer": "no such text"} for n in range(40)])
    settings = bench.root.joinpath(job).read_text().replace("requests_per_minute = 6\n", "") + SCORED
    bench.root.joinpath(job).write_text(settings)
    call = (job, "--base-url", "rehearsal:", "--progress", "none")
    for out, code in (("first", 0), ("second", 1)):  # all answers are wrong, in both
        against = ("--set", "eval.against=first") if out == "second" else ()
        assert called(monkeypatch, "run", *call, "--out", out, *against).returncode == code
    lines = planned(monkeypatch, job, "--base-url", "rehearsal:", "--out", "third")
    [found] = [line for line in lines if line.startswith("would find")]
    assert found.endswith("4 times of 5 (as second varied)")
    [fall] = json.loads(called(monkeypatch, "plan", job, "--out", "third", "--json").stdout)["detectable"]
    assert (fall["run"], fall["fall"] < 0.25) == ("second", True)
    bench.root.joinpath(job).write_text(f"{settings}[[eval.guards]]\nno_worse_by = 0.4\n")
    [fall] = json.loads(called(monkeypatch, "plan", job, "--out", "third", "--json").stdout)["detectable"]
    assert 0.4 < fall["fall"] < 0.55
