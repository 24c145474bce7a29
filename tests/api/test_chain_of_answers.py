"""A run with typed answers as the input of the next job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import batchmix as bm
from tests.conftest import Provider

SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}, "stars": {"type": "integer"}}}
SCHEMA |= {"required": ["mood", "stars"]}
ROWS = [{"text": f"word {number}"} for number in range(20)]


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def at(standin: Provider) -> dict[str, Any]:
    return {"model": "n", "base_url": standin.url, "provider": {"api_key_env": ""}, "keep_going": True}


def typed(*, flatten: bool = False) -> bm.Run:
    answer = {"repair": 0, "flatten": flatten}
    where: dict[str, Any] = {"model": "m", "base_url": "rehearsal:?seed=3&missing_key=0.4", "keep_going": True}
    run = bm.run(ROWS, "Rate {{ text }}", **where, schema=SCHEMA, answer=answer)
    assert 0 < sum(result.ok for result in run) < 20
    return run


def sent(run: bm.Run, key: str = "text") -> list[str]:
    return sorted(f"A {result.answer['mood']} one: {result.input[key]}" for result in run if result.answer is not None)


@pytest.mark.parametrize("flatten", [False, True])
def test_a_job_over_the_data_folder_reads_the_answers_and_carries_none(
    standin: Provider, at: Any, flatten: bool
) -> None:
    run = typed(flatten=flatten)
    mood = 'row["answer.mood"]' if flatten else "answer.mood"
    step = bm.run(
        f"{run.folder / 'data'}/*.parquet",
        f"A {{{{ {mood} }}}} one: {{{{ text }}}}",
        **at,
        bad_rows="reject",
        out="step",
    )
    assert sorted(standin.prompts()) == sent(run)
    assert [result.status for result in step] == ["ok" if result.ok else "rejected" for result in run]
    assert {tuple(result.input) for result in step} == {("text",)}


def test_answers_are_carried_where_they_are_named_also_beside_new_ones(at: Any, standin: Provider) -> None:
    run = typed()
    columns = ["text", {"from": "answer", "to": "review"}, {"from": "healed", "to": "was_healed"}]
    step = bm.run(
        str(run.folder / "data"), "Again {{ text }}", **at, input={"columns": columns}, out="step",
        schema=SCHEMA, answer={"repair": 0, "on_invalid": "keep"},
    )  # fmt: skip
    assert [result.input["review"] for result in step] == run.answers()
    assert [result.input["was_healed"] for result in step] == [result.healed for result in run]
    with pytest.raises(bm.UsageError, match="answer"):
        bm.run(
            str(run.folder / "data"),
            "Again {{ text }}",
            **at,
            input={"columns": ["answer"]},
            out="other",
            schema=SCHEMA,
        )


def test_the_next_step_reads_the_fields(at: Any, standin: Provider) -> None:
    run = typed()
    step = run.then("A {{ review.mood }} one: {{ text }}", review="answer", **at)
    assert sorted(standin.prompts()) == sent(run)
    assert [result.input["review"] for result in step] == run.answers()
    assert {tuple(result.input) for result in step} == {("text", "review")}


def test_a_column_of_the_input_with_such_a_name_is_carried_on(at: Any) -> None:
    rows = [{"text": "a", "answer": "x", "healed": 1, "repairs": 2, "answer.mood": "y"}]
    run = bm.run(rows, "{{ text }}", **at)
    step = bm.run(str(run.folder / "data"), "{{ text }}", **at, out="step")
    assert [result.input for result in step] == rows
