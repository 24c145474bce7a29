"""Parameters of rows with messages are sent: files for fine-tuning, and complete request bodies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.engine.plan import plan_run
from batchmix.engine.run import Options
from batchmix.errors import InputError, JobError, RunError
from batchmix.job import Limits, Model, read_job
from tests.conftest import Bench
from tests.load.conftest import MODEL, all_requests, carried_rows, make_job, open_rows, stored

HI = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "w", "parameters": {"type": "object", "properties": {}}}}]
OWN = {
    "tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "w"}}, "parallel_tool_calls": False,
    "response_format": {"type": "json_object"}, "temperature": 0.3, "max_tokens": 5, "stop": ["a"], "seed": 1, "n": 2,
}  # fmt: skip


def _bodies(job: Any, spool: Path, **options: Any) -> list[Any]:
    return [json.loads(request.body) for request in all_requests(open_rows(job, spool, **options), job)]


def test_parameters_beside_messages_are_sent_and_go_before_the_jobs(rows_file: Any, spool: Path) -> None:
    """A row without one uses the job's; columns that are no parameters, such as labels, are only carried."""
    path = rows_file([{"messages": HI, **OWN, "user": "u", "source": "s"}, {"messages": HI, "tools": None}])
    job = make_job(path, settings={"params": {"temperature": 1, "top_p": 0.5, "max_completion_tokens": 9}})
    first, second = _bodies(job, spool)
    assert first == {"model": MODEL, "messages": HI, "top_p": 0.5, **OWN}
    assert second == {"model": MODEL, "messages": HI, "temperature": 1, "top_p": 0.5, "max_completion_tokens": 9}
    dataset = open_rows(job, spool)
    assert dataset.row_params == tuple(sorted(OWN))
    assert all_requests(dataset, job)[0].max_tokens == 10
    assert carried_rows(dataset)[0]["user"] == "u"
    assert json.loads(carried_rows(dataset)[0]["stop"]) == ["a"]


@pytest.mark.parametrize("how", ["a template", "a prompt", "none wanted"])
def test_columns_named_like_parameters_stay_columns_elsewhere(how: str, rows_file: Any, spool: Path) -> None:
    """Next to a prompt, with a template, and if `input.params` is empty."""
    row = {"prompt": "hi", "n": "x", "seed": "y"} if how == "a prompt" else {"messages": HI, "n": "x", "seed": "y"}
    input_settings = {"a template": {"prompt": "{{ n }}"}, "a prompt": {}, "none wanted": {"params": ""}}[how]
    job = make_job(rows_file([row]), **input_settings)
    assert _bodies(job, spool)[0].keys() == {"model", "messages"}
    assert open_rows(job, spool).row_params == ()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"temperature": "warm"},
            "temperature is text; it is sent with the row's messages as OpenAI's parameter of that",
        ),
        (
            {"n": [1]},
            "n is a list; .* which must be a whole number. If the column means something else, .*: --set input.params=''",
        ),
        ({"seed": 0.5}, "seed is a number; .* which must be a whole number"),
        ({"tools": {"a": 1}}, "tools is an object; .* which must be a list"),
        ({"stop": 5}, "stop is a number; .* which must be text or a list"),
        ({"max_tokens": True}, "max_tokens is true or false; .* which must be a whole number"),
        ({"stream": "yes"}, "stream is text"),
    ],
)
def test_a_value_that_does_not_fit_its_parameter_is_reported(row: Any, words: str, rows_file: Any, spool: Path) -> None:
    path = rows_file([{"messages": HI}, {"messages": HI, **row}])
    with pytest.raises(InputError, match=rf"rows\.jsonl:2: {words}"):
        open_rows(make_job(path), spool)
    open_rows(make_job(path, params=""), spool)


def test_the_fine_tuning_weight_of_a_message_is_not_sent(rows_file: Any, spool: Path) -> None:
    messages = [*HI, {"role": "assistant", "content": "a", "weight": 0}, *HI]
    job = make_job(rows_file([{"messages": messages, "functions": [{"name": "f"}]}]))
    (body,) = _bodies(job, spool)
    assert body["messages"] == [*HI, {"role": "assistant", "content": "a"}, *HI]
    assert body["functions"] == [{"name": "f"}]


def test_rows_of_tables_have_parameters_too(tmp_path: Path, spool: Path, rows_file: Any) -> None:
    """Structs lose the nulls that fill them, floats that pandas made of integers are integers, and cells may hold JSON."""
    table = pa.table(
        {
            "messages": [HI, HI],
            "max_tokens": [5.0, float("nan")],
            "stop": [["a"], None],
            "tools": [json.dumps(TOOLS), None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    job = make_job(tmp_path / "a.parquet")
    first, second = _bodies(job, spool)
    assert (first["max_tokens"], first["stop"], first["tools"]) == (5, ["a"], TOOLS)
    assert second.keys() == {"model", "messages"}
    cell = json.dumps(HI).replace('"', '""')
    job = make_job(rows_file(f'messages,temperature,logprobs,stop\n"{cell}",0.5,True,x\n'.encode(), "a.csv"))
    assert _bodies(job, spool)[0] == {"model": MODEL, "messages": HI, "temperature": 0.5, "logprobs": True, "stop": "x"}


def test_request_bodies_are_sent_unchanged(rows_file: Any, spool: Path) -> None:
    """Each names its model, unless the job does; labels are sent with them, and no key is carried."""
    rows = [{"model": name, "messages": HI, "user": "u", "temperature": 0, "id": f"r-{name}"} for name in ("a", "b")]
    job = make_job(rows_file(rows), model=None)
    dataset = open_rows(job, spool, reserved=frozenset({"model"}))
    assert dataset.scan.models == ("a", "b")
    (request,) = all_requests(dataset, job, Model("b", "b", {}, Limits()))
    assert json.loads(request.body) == {"model": "b", "messages": HI, "user": "u", "temperature": 0}
    assert carried_rows(dataset) == [{"custom_id": "r-a"}, {"custom_id": "r-b"}]
    named = make_job(job.input.path)
    assert [body["model"] for body in _bodies(named, spool, reserved=frozenset({"model"}))] == [MODEL, MODEL]
    with pytest.raises(InputError, match=r"rows\.jsonl:3: names no model; set model in the job"):
        open_rows(make_job(rows_file([*rows, {"messages": HI}]), model=None), spool)
    with pytest.raises(JobError, match="model: is missing"):
        open_rows(make_job(rows_file([{"messages": HI}], "none.jsonl"), model=None), spool)


def test_parameters_of_other_providers_stay_in_a_body(rows_file: Any, spool: Path) -> None:
    more = {"top_k": 5, "thinking": {"type": "enabled"}, "chat_template_kwargs": {"enable_thinking": False}}
    job = make_job(rows_file([{"model": "a", "messages": HI, **more}]), model=None)
    (request,) = all_requests(open_rows(job, spool), job, Model("a", "a", {}, Limits()))
    assert json.loads(request.body) == {"model": "a", "messages": HI, **more}


@pytest.mark.parametrize(
    ("row", "input_settings", "warned"),
    [
        ({"messages": HI, "system": "Be brief", "top_k": 5, "n": 1}, {}, "'system', 'top_k'"),
        ({"prompt": "hi", "system": "Be brief", "temperature": 0.5}, {}, "'system', 'temperature'"),
        ({"prompt": "hi", "system": "Be brief"}, {"system": "{{ system }}"}, ""),
        ({"messages": HI, "top_k": 5}, {"params": ""}, ""),
        ({"prompt": "hi", "n": 1, "stop": "here", "seed": 5, "reasoning": "long"}, {}, ""),
        ({"text": "hi", "system": "Be brief"}, {"prompt": "{{ text }}"}, ""),
    ],
)
def test_columns_that_look_like_unsent_parameters_give_a_warning(
    row: Any, input_settings: Any, warned: str, rows_file: Any, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_rows(make_job(rows_file([row]), **input_settings), spool)
    assert (f"not sent with the rows: {warned};" in caplog.text) if warned else not caplog.text


@pytest.mark.usefixtures("settled")
def test_a_scan_that_did_not_check_parameters_is_not_reused(rows_file: Any, spool: Path) -> None:
    """Such as one of an earlier version, or of a job without parameters."""
    job = make_job(rows_file([{"messages": HI, "temperature": "warm"}]), params="")
    scan = stored(open_rows(job, spool).scan)
    assert open_rows(job, spool, previous=scan).scan.param_columns == ()
    with pytest.raises(InputError, match="temperature is text"):
        open_rows(make_job(job.input.path), spool, previous=scan)


def test_the_plan_lists_the_parameters_of_rows_and_a_change_is_reported(bench: Bench) -> None:
    bench.settings["input"] = {"path": str(bench.source), "params": ""}
    bench.source.write_text(json.dumps({"messages": HI, "temperature": 0.5}) + "\n")
    bench.run()
    del bench.settings["input"]["params"]
    with pytest.raises(RunError, match="request 1 existing answer again"):
        bench.run()
    found = plan_run(read_job(None, bench.settings, {}), Options(update=True))
    assert (found.own_params, found.first["temperature"]) == (("temperature",), 0.5)
    assert msgspec.json.decode(msgspec.json.encode(found.as_json()))["own_params"] == ["temperature"]
