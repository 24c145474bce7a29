"""The results of a run are the rows of the next one, with its answers under its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import batchmix as bm
from batchmix.engine.plan import plan_run
from batchmix.engine.prepare import Options
from batchmix.engine.start_record import exit_code
from batchmix.errors import InputError, JobError, RunError
from batchmix.job import read_job
from batchmix.store.view import View
from tests.conftest import Bench

BAD = {2, 11}
"""The rows that the template can't make a request from."""


class Chain:
    """A run `draft`, and a next run over its results."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        bench.out = bench.root / "runs" / "draft"
        bench.settings["output"]["path"] = str(bench.out)
        self.draft_settings: dict[str, Any] = json.loads(json.dumps(bench.settings))

    def draft(self, count: int = 25, **settings: Any) -> View:
        """Answer rows, of which a few are bad, and are rejected."""
        rows = [{"id": f"r{n}", "text": None if n in BAD else f"word {n}", "n": n} for n in range(count)]
        self.bench.source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.bench.settings = self.draft_settings | settings
        self.bench.out = self.bench.root / "runs" / "draft"
        return self.bench.run()

    def next(self, name: str = "final", settings: dict[str, Any] | None = None, **source: Any) -> View:
        """Run the next job over the draft."""
        self.use(name, settings, **source)
        return self.bench.run()

    def use(self, name: str = "final", settings: dict[str, Any] | None = None, **source: Any) -> None:
        self.bench.out = self.bench.root / "runs" / name
        source = {"run": "draft", "prompt": "Improve {{ draft }}"} | source
        self.bench.settings = {
            **self.draft_settings,
            "name": name,
            "input": {key: value for key, value in source.items() if value is not None},
            "output": {"path": str(self.bench.out), "shard_rows": 7},
            **(settings or {}),
        }


@pytest.fixture
def chain(bench: Bench) -> Chain:
    return Chain(bench)


def test_the_answers_of_a_run_are_a_variable_and_a_column_of_the_next(chain: Chain, bench: Bench) -> None:
    chain.draft()
    drafts = bench.rows()
    view = chain.next(prompt="Improve {{ draft }}, which answers {{ text }} in {{ completion_tokens }} tokens")
    rows = bench.rows()
    assert [row["custom_id"] for row in rows] == [f"r{n}" for n in range(25)]
    assert [row["draft"] for row in rows] == [row["response"] for row in drafts]
    assert set(rows[0]) == {*drafts[0], "draft"}
    sent = next(row for row in drafts if row["status"] == "ok")
    wanted = f"Improve {sent['response']}, which answers {sent['text']} in {sent['completion_tokens']} tokens"
    assert wanted in bench.standin.prompts()
    assert view.totals.ok == 23


def test_rows_without_an_answer_keep_their_place_and_the_reason(chain: Chain, bench: Bench) -> None:
    """Also in the run after the next, which names the run in which they failed."""
    chain.draft()
    assert exit_code(chain.next()) == 1
    chain.next("last", run="final", prompt="{{ final }} {{ draft }}")
    bad = [row for row in bench.rows() if row["status"] != "ok"]
    assert {row["row"] for row in bad} == BAD
    for row in bad:
        assert (row["status"], row["error_type"]) == ("rejected", "no_input")
        assert "runs/draft: bad_row: input.prompt: column 'text' is null" in row["error_message"]


def test_rows_that_the_earlier_run_has_answered_since_are_sent(chain: Chain, bench: Bench) -> None:
    """And no others."""
    chain.draft()
    chain.next()
    before = bench.standin.request_count()
    chain.draft(input={**chain.draft_settings["input"], "prompt": "Say {{ text or 'nothing' }}"})
    assert bench.standin.request_count() == before + len(BAD)
    view = chain.next()
    assert bench.standin.request_count() == before + 2 * len(BAD)
    assert exit_code(view) == 0
    assert chain.next().totals.ok == 25
    assert bench.standin.request_count() == before + 2 * len(BAD)


def test_a_row_for_which_the_condition_is_false_is_no_failure(chain: Chain, bench: Bench) -> None:
    """In the next run it is a row without an answer in that step."""
    chain.draft(1)
    (draft,) = bench.rows()
    view = chain.next("none", when="{{ completion_tokens > 100000 }}")
    (row,) = bench.rows()
    assert (row["status"], row["error_type"], row["draft"]) == ("rejected", "skipped", draft["response"])
    assert row["error_message"] == "input.when is false: {{ completion_tokens > 100000 }}"
    assert exit_code(view) == 0
    chain.next("last", run="none", prompt="{{ row['none'] or draft }}")
    assert bench.standin.prompts()[-1] == draft["response"]


def test_a_condition_works_for_any_input(bench: Bench) -> None:
    bench.settings["input"]["when"] = "{{ n % 2 }}"
    bench.write(6)
    assert exit_code(bench.run()) == 0
    assert [row["error_type"] for row in bench.rows()] == ["skipped", None] * 3
    assert bm.open(bench.out).failures().num_rows == 0
    plan = plan_run(read_job(None, bench.settings | {"output": {"path": str(bench.root / "new")}}, {}), Options())
    assert (plan.requests, plan.skipped, plan.rejected) == (3, 3, 0)


def test_a_changed_condition_drops_no_answer_unasked(bench: Bench) -> None:
    bench.write(4)
    bench.run()
    bench.settings["input"]["when"] = "{{ n > 1 }}"
    with pytest.raises(RunError, match="would request 2 existing answers again"):
        bench.run()


@pytest.mark.parametrize("when", ["n > 1", "{{ n }} {{ n }}", "{% if n %}1{% endif %}", "{{ n > }}"])
def test_a_condition_is_one_expression(bench: Bench, when: str) -> None:
    bench.settings["input"]["when"] = when
    bench.write(4)
    with pytest.raises(JobError, match=r"input\.when"):
        bench.run()


def test_a_condition_over_a_column_that_does_not_exist_is_refused(chain: Chain, bench: Bench) -> None:
    bench.settings["input"]["when"] = "{{ m > 1 }}"
    bench.write(4)
    with pytest.raises(InputError, match=r"input\.when: there is no column 'm'"):
        bench.run()


def test_several_results_of_a_row_have_ids_of_their_own(chain: Chain, bench: Bench) -> None:
    chain.draft(15, samples=2)
    view = chain.next()
    rows = bench.rows()
    assert [row["custom_id"] for row in rows[:3]] == ["r0/m/0", "r0/m/1", "r1/m/0"]
    assert len(rows) == 30
    assert view.totals.ok == 26


def test_typed_answers_are_values_under_the_name_of_the_run(chain: Chain, bench: Bench) -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    chain.draft(3, answer={"schema": schema})
    chain.next(prompt="{{ draft.n }} {{ answer.n }}")
    first, _, bad = bench.rows()
    assert f"{first['draft']['n']} {first['draft']['n']}" in bench.standin.prompts()
    assert isinstance(first["draft"]["n"], int)
    assert bad["draft"] is None
    chain.draft(3, answer={"schema": schema, "flatten": True}, output={"path": str(bench.root / "runs" / "flat")})
    chain.next("flatter", run="flat", prompt="{{ row['flat.n'] }}")
    assert [row["flat.n"] is None for row in bench.rows()] == [False, False, True]


def test_a_column_of_the_same_name_is_kept(chain: Chain, bench: Bench) -> None:
    """The answers get another name."""
    chain.draft(2, input={**chain.draft_settings["input"], "columns": [{"from": "text", "to": "draft"}]})
    drafts = bench.rows()
    chain.next(prompt="{{ draft }} {{ draft_answer }}")
    assert [row["draft"] for row in bench.rows()] == ["word 0", "word 1"]
    assert [row["draft_answer"] for row in bench.rows()] == [row["response"] for row in drafts]


def test_the_run_of_a_date_has_the_name_of_its_job(chain: Chain, bench: Bench) -> None:
    chain.draft(2, output={"path": str(bench.root / "runs" / "2026-11-27")}, name="my-draft")
    chain.next(run="2026-11-27", prompt="{{ my_draft }}")
    assert "my_draft" in bench.rows()[0]


def test_an_unfinished_run_is_refused_with_what_to_do(chain: Chain, bench: Bench) -> None:
    chain.draft(25)
    (bench.root / "runs" / "draft" / "data" / "part-00001.parquet").unlink()
    with pytest.raises(InputError, match=r"unfinished: 1 part of 3 are missing.*batchmix resume"):
        chain.next()
    assert not bench.out.exists()


def test_a_run_may_be_given_by_its_path(chain: Chain, bench: Bench) -> None:
    chain.draft(4)
    view = chain.next(run=None, path=str(bench.root / "runs" / "draft"))
    assert view.totals.ok == 3
    with pytest.raises(JobError, match="either path or run"):
        chain.next(path=str(bench.root / "runs" / "draft"))


def test_shards_of_other_lengths_than_the_parts_have_the_same_rows(chain: Chain, bench: Bench) -> None:
    chain.draft()
    chain.next()
    parts = sorted((bench.out / "data").iterdir())
    assert [pq.read_metadata(part).num_rows for part in parts] == [7, 7, 7, 4]
    assert [row["n"] for row in bench.rows()] == list(range(25))


def test_a_run_is_its_own_input_never(chain: Chain, bench: Bench) -> None:
    chain.draft(4)
    with pytest.raises(JobError, match="lies in the run's own folder"):
        chain.next("draft", {"name": "bench"})


def test_unreadable_run_folders_are_named(tmp_path: Path) -> None:
    """A folder that only looks like a run has no parts to read."""
    (tmp_path / "run.json").write_text('{"name": "x", "rows": 3, "results": 3, "shard_rows": 2}')
    job = read_job(None, {"model": "m", "input": {"path": str(tmp_path), "prompt": "{{ x }}"}, "name": "n"}, {})
    with pytest.raises(InputError, match="is unfinished: 2 parts of 2"):
        plan_run(job, Options())
