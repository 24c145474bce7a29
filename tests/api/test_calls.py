"""`bm.run`, `bm.arun`, `bm.open`, and what a `Run` gives."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

import batchmix as bm
from tests.conftest import Provider

TEXTS = [f"word {number}" for number in range(30)]
ROWS = [{"id": f"r{number}", "text": text} for number, text in enumerate(TEXTS)]
PROMPT = "Say {{ text }}"


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def at(standin: Provider) -> dict[str, Any]:
    """The keyword arguments that lead to the stand-in provider."""
    return {"model": "m", "base_url": standin.url, "provider": {"api_key_env": ""}}


def test_rows_come_back_as_a_run_in_a_folder_named_by_their_content(standin: Provider, at: Any) -> None:
    run = bm.run(ROWS, PROMPT, **at)
    assert (run.status, len(run), run.folder.parent) == ("finished", 30, Path("runs").resolve())
    assert [result.input["text"] for result in run] == TEXTS
    assert all(result.ok and result.response for result in run)
    assert (run.folder / "run.json").exists()
    assert bm.run(iter(ROWS), PROMPT, **at).folder == run.folder
    assert standin.request_count() == 30


def test_another_prompt_model_or_row_has_another_folder(at: Any) -> None:
    calls = [(ROWS, PROMPT, at), (ROWS, "Sing {{ text }}", at), (ROWS[:9], PROMPT, at)]
    calls += [(ROWS, PROMPT, at | {"model": "n"}), (ROWS, PROMPT, at | {"params": {"temperature": 0.5}})]
    folders = {bm.run(rows, prompt, **settings).folder for rows, prompt, settings in calls}
    assert len(folders) == 5


def test_the_content_digest_is_that_of_another_process(at: Any) -> None:
    code = f"import batchmix as bm; print(bm.run({ROWS!r}, {PROMPT!r}, **{at!r}).folder)"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    assert Path(shown.stdout.strip()) == bm.run(ROWS, PROMPT, **at).folder


def test_a_path_and_a_job_file_run_as_on_the_command_line(tmp_path: Path, standin: Provider, at: Any) -> None:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    Path("job.toml").write_text(
        f'model = "m"\n[input]\npath = "rows.jsonl"\nprompt = "{PROMPT}"\n[provider]\nbase_url = "{standin.url}"\napi_key_env = ""\n'
    )
    run = bm.run("job.toml")
    assert (run.folder, run.summary["ok"]) == (tmp_path / "runs/job", 30)
    assert bm.run(Path("rows.jsonl"), PROMPT, out="runs/job", name="job", **at).summary["ok"] == 30
    assert bm.run(bm.Job("job.toml")).summary["ok"] == 30
    assert standin.request_count() == 30
    with pytest.raises(bm.UsageError, match="model: the Job says this"):
        bm.run(bm.Job("job.toml"), model="n")


def test_strings_are_prompts_or_the_templates_only_column(standin: Provider, at: Any) -> None:
    bm.run(["one", "two"], **at)
    bm.run(["three"], "Say {{ word }}", **at)
    assert sorted(standin.prompts()) == ["Say three", "one", "two"]


def test_nothing_is_printed_and_a_mistake_is_raised_before_rows_are_read(capfd: Any, at: Any) -> None:
    def rows() -> Iterator[Any]:
        raise AssertionError("read")
        yield

    with pytest.raises(bm.UsageError, match="did you mean concurrency"):
        bm.run(rows(), PROMPT, **at, concurency=3)
    with pytest.raises(bm.UsageError, match=r"data:1: .*text"):
        bm.run([{"words": "a"}], PROMPT, **at)
    bm.run(ROWS, PROMPT, **at)
    assert capfd.readouterr() == ("", "")
    assert not [path for path in Path("runs").iterdir() if not (path / "run.json").exists()]


def test_an_error_of_the_iterator_reaches_the_caller_and_leaves_nothing(tmp_path: Path, at: Any) -> None:
    def rows() -> Iterator[Any]:
        yield ROWS[0]
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        bm.run(rows(), PROMPT, **at)
    assert list(tmp_path.iterdir()) == []


def test_failed_rows_stay_rows(standin: Provider, at: Any) -> None:
    standin.behave("400=0.3")
    run = bm.run(ROWS, PROMPT, **at, keep_going=True)
    failures = run.failures()
    assert 0 < failures.num_rows == run.summary["rejected"] < 30
    assert set(failures.column("status").to_pylist()) == {"rejected"}
    assert len(run.to_arrow()) == 30
    with pytest.raises(
        bm.RowsFailed, match=rf"{failures.num_rows} results of 30 without an answer: .*such as row"
    ) as caught:
        run.raise_for_failures()
    assert caught.value.run is run
    joined = run.join(ROWS, {"answer": "response"})
    assert [row["answer"] is None for row in joined] == [not result.ok for result in run]


def test_under_a_running_loop_and_off_the_main_thread(at: Any) -> None:
    async def in_a_notebook() -> bm.Run:
        return bm.run(ROWS, PROMPT, **at, out="loop")

    assert asyncio.run(in_a_notebook()).summary["ok"] == 30
    found = list[bm.Run]()
    thread = threading.Thread(target=lambda: found.append(bm.run(ROWS, PROMPT, **at, out="thread")))
    thread.start()
    thread.join(60)
    assert found[0].summary["ok"] == 30


def test_three_runs_at_once_in_one_process(standin: Provider, at: Any) -> None:
    standin.behave("latency=0.05-0.2")
    before = threading.active_count()
    runs = list[bm.Run]()

    def one(number: int) -> None:
        rows = [{"text": f"{number} {text}"} for text in TEXTS * 10]
        runs.append(bm.run(rows, PROMPT, **at, out=f"runs/{number}"))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [run.summary["ok"] for run in runs] == [300, 300, 300]
    assert standin.request_count() == 900
    for run in runs:
        assert all(result.input["text"].startswith(run.folder.name) for result in run)
    assert threading.active_count() == before


def test_the_same_folder_twice_at_once_is_refused(standin: Provider, at: Any) -> None:
    async def both() -> list[Any]:
        calls = [bm.arun(ROWS, PROMPT, **at, out="same") for _ in range(2)]
        return await asyncio.gather(*calls, return_exceptions=True)

    standin.behave("latency=0.5")
    results = asyncio.run(both())
    assert sorted(type(result).__name__ for result in results) == ["Run", "RunLocked"]


def test_a_run_folder_is_opened_also_while_it_runs(standin: Provider, at: Any) -> None:
    standin.behave("latency=0.3")

    async def look() -> tuple[str, str]:
        task = asyncio.create_task(bm.arun(ROWS, PROMPT, **at, out="r", concurrency=5))
        while not Path("r/run.json").exists() or not len(bm.open("r")):
            await asyncio.sleep(0.01)
        during = bm.open("r").status
        await task
        return during, bm.open("r").status

    assert asyncio.run(look()) == ("running", "finished")
    with pytest.raises(bm.UsageError, match="is not a run folder"):
        bm.open("nothing")


def test_what_a_run_gives(at: Any) -> None:
    run = bm.run(ROWS, PROMPT, **at, prices={"m": {"input": 1, "output": 2}})
    table = run.to_arrow()
    assert table.equals(pa.table(run))
    assert run.to_arrow(["response", "row"]).column_names == ["response", "row"]
    assert run.scan().schema.equals(table.schema)
    assert run.cost_usd == pytest.approx(sum(table.column("cost_usd").to_pylist()))
    assert list(run)[3].cost_usd == table.column("cost_usd")[3].as_py()
    assert list(run)[3].sent_at == table.column("sent_at")[3].as_py()
    assert run.to_pandas().attempts.dtype == "Int32"
    assert run.to_polars().height == 30
    with pytest.raises(bm.UsageError, match="no column 'answer'; it has row, custom_id"):
        run.to_arrow(["answer"])


def test_a_table_is_joined_only_with_its_own_run(at: Any) -> None:
    run = bm.run(ROWS, PROMPT, **at)
    assert [row["status"] for row in run.join(ROWS, ["status"])] == ["ok"] * 30
    with pytest.raises(bm.UsageError, match=r"29 .*30"):
        run.join(ROWS[:29], ["status"])
    with pytest.raises(bm.UsageError, match="row 0"):
        run.join(ROWS[::-1], ["status"])


def test_several_models_and_samples_are_joined_one_by_one(at: Any) -> None:
    models = [{"id": "m"}, {"id": "n"}]
    run = bm.run(ROWS, PROMPT, **{k: v for k, v in at.items() if k != "model"}, models=models, samples=2)
    assert len(run) == 120
    with pytest.raises(bm.UsageError, match="has an answer of each model; name one, as model='m'"):
        run.join(ROWS)
    with pytest.raises(bm.UsageError, match="has 2 answers to each row; choose one, as sample=0"):
        run.join(ROWS, model="n")
    with pytest.raises(bm.UsageError, match="there is no sample 2; there are samples 0 to 1"):
        run.join(ROWS, model="n", sample=2)
    with pytest.raises(bm.UsageError, match="there is no model 'x'; there are m, n"):
        run.join(ROWS, model="x")
    wanted = {r.row: r.response for r in run if r.model == "n" and r.sample == 1}
    assert [row["a"] for row in run.join(ROWS, {"a": "response"}, model="n", sample=1)] == list(wanted.values())


def test_a_canary_forecasts_the_rest_and_goes_on(standin: Provider, at: Any) -> None:
    look = bm.run(ROWS, PROMPT, **at, prices={"m": {"input": 1, "output": 2}}, canary=15)
    assert re.fullmatch(r"<Forecast: 15 requests left, \d+ tokens of answers \(.*\), cost \$.*>", repr(look.forecast))
    assert (look.status, len(look)) == ("unfinished", 15)
    assert look.forecast is not None
    assert (look.forecast.rows, look.forecast.requests) == (15, 15)
    assert look.forecast.cost_usd is not None
    run = look.go_on()
    assert (run.status, run.forecast, standin.request_count()) == ("finished", None, 30)


def test_a_run_goes_on_with_changed_settings_and_a_misspelt_one_is_refused(standin: Provider, at: Any) -> None:
    with pytest.raises(bm.Stopped) as caught:
        bm.run(ROWS, PROMPT, **at, budget={"max_tokens": 100}, concurrency=1)
    run = caught.value.run
    assert run is not None
    with pytest.raises(bm.UsageError, match="retry_rejectd: did you mean retry_rejected"):
        run.go_on(retry_rejectd=True)
    with pytest.raises(bm.UsageError, match="examples: belong to the requests of the run"):
        run.go_on(examples=[("a", "b")])
    assert run.go_on(budget={"max_tokens": 10_000}, concurrency=4).summary["ok"] == 30
    assert standin.request_count() == 30


class Echo(msgspec.Struct):
    text: str
    token: str | None = None


def test_a_run_whose_answers_a_class_describes_goes_on_with_and_without_it(standin: Provider, at: Any) -> None:
    keep = {"on_invalid": "keep", "repair": 0}
    run = bm.run(ROWS, PROMPT, **at, schema=Echo, answer=keep, canary=15)
    assert (run.status, len(run)) == ("unfinished", 15)
    run = bm.open(run.folder).go_on()
    assert (run.status, standin.request_count()) == ("finished", 30)
    assert bm.open(run.folder).go_on(schema=Echo).status == "finished"
    assert bm.run(ROWS, PROMPT, **at, answer=keep | {"schema": Echo}).status == "finished"
    assert standin.request_count() == 30


def test_the_next_run_reads_the_results_of_this_one(standin: Provider, at: Any) -> None:
    standin.behave("400=0.2")
    run = bm.run(ROWS, PROMPT, **at, keep_going=True)
    standin.behave()
    step = run.then("Criticise: {{ draft }}", draft="response", model="n", keep_going=True)
    assert (step.status, len(step), step.folder.parent) == ("finished", 30, run.folder.parent)
    assert {result.model for result in step} == {"n"}
    for first, second in zip(run, step, strict=True):
        assert (second.custom_id, second.input["text"]) == (first.custom_id, first.input["text"])
        assert second.status == ("ok" if first.ok else "rejected")
    sent = [f"Criticise: {result.response}" for result in run if result.ok]
    assert sorted(standin.prompts()[30:]) == sorted(sent)
    assert run.then("Criticise: {{ draft }}", draft="response", model="n").folder == step.folder
    with pytest.raises(bm.UsageError, match="has no column 'answer', and draft is no setting"):
        run.then("{{ draft }}", draft="answer")


def test_a_job_with_scorers_is_evaluated_and_a_wrong_one_is_refused_before_anything_is_sent(
    standin: Provider, at: Any
) -> None:
    scorers = [{"kind": "regex", "pattern": "[a-z]"}]
    run = bm.run(ROWS, PROMPT, **at, eval={"scorers": scorers})
    assert run.evaluation is not None
    assert [score.score.mean for score in run.evaluation.scores] == [1.0]
    assert (run.folder / "evaluation" / "metrics.json").exists()
    sent = standin.request_count()
    with pytest.raises(bm.UsageError, match="nothing_like_it"):
        bm.run(ROWS, "Sing {{ text }}", **at, eval={"scorers": [{"kind": "exact", "target": "nothing_like_it"}]})
    assert standin.request_count() == sent


NOTHING: list[dict[str, str]] = []


def test_no_rows_are_refused_also_where_a_run_is(standin: Provider, at: Any) -> None:
    bm.run(ROWS, PROMPT, **at, out="r")
    for rows in (NOTHING, iter(NOTHING), pa.table({"text": pa.array([], pa.string())})):
        with pytest.raises(bm.UsageError, match="data: there are no rows in it"):
            bm.run(rows, PROMPT, **at, out="r")
    assert standin.request_count() == 30


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"out": 5}, "output.path: expected text"),
        ({"out": b"r"}, "output.path: expected text"),
        ({"out": "a\0b"}, "output.path: holds a null"),
        ({"out": "a\ud800"}, "output.path: is not UTF-8"),
        ({"out": "/proc/r"}, "/proc: the rows can't be written there: No such file"),
        ({"params": {None: 1}}, "the key None in a setting must be a text"),
        ({"params": {"logit_bias": {True: 1}}}, "the key True in a setting must be a text"),
    ],
)
def test_what_is_wrong_with_an_argument_is_said_by_an_error_of_ours(at: Any, more: Any, message: str) -> None:
    with pytest.raises(bm.UsageError, match=message):
        bm.run(ROWS, PROMPT, **at | more)


def test_numbers_as_keys_of_a_parameter_are_text_as_in_json(standin: Provider, at: Any) -> None:
    run = bm.run(ROWS, PROMPT, **at, params={"logit_bias": {50256: -100}})
    assert bm.run(ROWS, PROMPT, **at, params={"logit_bias": {"50256": -100}}).folder == run.folder
    assert standin.request_count() == 30


def test_a_run_goes_on_wherever_a_run_can_be_started(standin: Provider, at: Any) -> None:
    async def on_a_loop() -> tuple[int, int]:
        some = await bm.arun(bm.run(ROWS, PROMPT, **at, limit=5), limit=10)
        count = len(some)
        rest = [result async for result in bm.stream(some, limit=30)]
        return count, len(rest)

    assert asyncio.run(on_a_loop()) == (10, 30)
    assert standin.request_count() == 30
    with pytest.raises(bm.UsageError, match="prompt: the run says this"):
        bm.run(bm.open(next(Path("runs").iterdir())), "Sing {{ text }}")


def test_a_limited_run_is_joined_to_the_whole_table(at: Any) -> None:
    run = bm.run(ROWS, PROMPT, **at, limit=10)
    assert [row["status"] for row in run.join(ROWS, ["status"])] == ["ok"] * 10 + [None] * 20
    assert len(run.join(ROWS[:10], ["status"])) == 10
    with pytest.raises(bm.UsageError, match=r"9 .*10"):
        run.join(ROWS[:9], ["status"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda run: bm.run("I loved it", "Say {{ text }}", model="m"),
            r"rows are a list, as in bm.run\(\['I loved it'\]",
        ),
        (lambda run: run.then("Say {{ a }}", a="response", sampels=3), "sampels is no setting; did you mean samples"),
        (lambda run: bm.evaluate(run, ["exat"]), "exact"),
    ],
)
def test_typical_mistakes_are_answered_with_what_was_meant(call: Any, message: str, at: Any) -> None:
    with pytest.raises(bm.UsageError, match=message):
        call(bm.run(ROWS, PROMPT, **at))


def test_the_docstring_lists_all_keyword_arguments() -> None:
    from batchmix.api.settings import Settings

    assert bm.run.__doc__ is not None
    assert all(f"`{name}`" in bm.run.__doc__ for name in Settings.__annotations__)
