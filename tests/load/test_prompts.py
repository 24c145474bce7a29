from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from batchmix.errors import InputError, JobError
from batchmix.job import Limits, Model
from tests.load.conftest import MODEL, all_requests, make_job, open_rows, prompts_of


def _bodies(dataset: Any, job: Any) -> list[Any]:
    return [json.loads(r.body) for r in all_requests(dataset, job)]


def test_rows_have_messages_or_a_prompt(rows_file: Any, spool: Path) -> None:
    """Messages take precedence if they are not null; keys of messages and params keep their order."""
    messages = [{"role": "user", "name": "x", "content": "m"}]
    path = rows_file([{"prompt": "p"}, {"messages": messages, "prompt": "p"}, {"messages": None, "prompt": "q"}])
    job = make_job(path, settings={"params": {"top_p": 1, "max_tokens": 9}})
    first, second, third = all_requests(open_rows(job, spool), job)
    start, end = f'{{"model":"{MODEL}","messages":[', '],"top_p":1,"max_tokens":9}'
    assert first.body.decode() == f'{start}{{"role":"user","content":"p"}}{end}'
    assert second.body.decode() == f'{start}{{"role":"user","name":"x","content":"m"}}{end}'
    assert third.body.decode() == f'{start}{{"role":"user","content":"q"}}{end}'
    assert (first.path, first.max_tokens, first.prompt_tokens) == ("/chat/completions", 9, len(first.body) // 4)


def test_a_system_text_is_sent_before_a_rows_prompt(rows_file: Any, spool: Path) -> None:
    """It is a template too, whose columns the scan looks for."""
    job = make_job(rows_file([{"prompt": "p", "lang": "fr"}]), system="Speak {{ lang }}")
    assert _bodies(open_rows(job, spool), job)[0]["messages"] == [
        {"role": "system", "content": "Speak fr"},
        {"role": "user", "content": "p"},
    ]
    with pytest.raises(InputError, match=r":1: has no column 'tone'"):
        open_rows(make_job(job.input.path, system="{{ tone }}"), spool)


@pytest.mark.parametrize("reject", [False, True])
def test_a_system_text_is_refused_for_rows_with_messages(rows_file: Any, spool: Path, reject: bool) -> None:
    """The file and the job do not match, so no single row is rejected for it."""
    path = rows_file([{"messages": [{"role": "user", "content": "x"}]}])
    with pytest.raises(InputError, match=r"rows\.jsonl:1: input\.system is for rows with a prompt"):
        open_rows(make_job(path, system="s"), spool, reject_bad_rows=reject)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "x", "id": 1}, "has neither messages nor prompt; it has 'question', 'id'"),
        ({"prompt": 5}, "prompt is a number; it must be text"),
        ({"prompt": ["x"]}, "prompt is a list; it must be text"),
        ({"prompt": [{"role": "user", "content": "x"}]}, "prompt is a list; .*rename a list of messages to messages"),
        ({"id": 1, "Review Text": "x"}, "has neither .* such as --prompt '{{ row\\[\"Review Text\"\\] }}'"),
        ({"prompt": True}, "prompt is true or false; it must be text"),
        ({"messages": "hi"}, "messages is text; it must be a list of objects"),
        ({"messages": []}, "messages is empty"),
        ({"messages": ["hi"]}, "messages holds text"),
        ({"messages": [{"content": "hi"}]}, "messages holds a message without a text as role"),
    ],
)
def test_a_row_without_a_valid_prompt_is_bad(row: Any, reason: str, rows_file: Any, spool: Path) -> None:
    """The error names line and reason; with `bad_rows = "reject"` only that row is rejected."""
    path = rows_file([{"prompt": "ok"}, row])
    with pytest.raises(InputError, match=rf"rows\.jsonl:2: {reason}"):
        open_rows(make_job(path), spool)
    job = make_job(path)
    dataset = open_rows(job, spool, reject_bad_rows=True)
    found = prompts_of(dataset, job)
    assert found[0] == "ok"
    assert found[1].startswith("rows.jsonl:2: ")
    assert dataset.scan.bad_rows == 1


def test_a_proposed_template_can_be_pasted_into_a_shell(rows_file: Any, spool: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_rows(make_job(rows_file([{"id": 1, "It's": "x"}, {"id": 2, "It's": "y"}])), spool)
    command = str(caught.value).partition("such as ")[2].partition("\n")[0]
    assert shlex.split(command) == ["--prompt", '{{ row["It\'s"] }}']


def test_a_null_prompt_rejects_only_its_row(rows_file: Any, spool: Path) -> None:
    """The scan accepts it."""
    job = make_job(rows_file([{"prompt": None}, {"messages": None}, {"prompt": "x"}]))
    assert prompts_of(open_rows(job, spool), job) == ["column 'prompt' is null", "column 'messages' is null", "x"]


def test_batch_lines_are_sent_as_they_are(rows_file: Any, spool: Path) -> None:
    """All keys keep their order; the path after /v1 and the model of the line are used."""
    lines = [
        {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "x", "model": "e", "u": None}},
        {"custom_id": "a", "url": "https://h/v1/chat/completions", "body": {"model": "m", "n": 2, "max_tokens": 7}},
        {"custom_id": None, "body": {"model": "e"}},
    ]
    job = make_job(rows_file(lines), model=None)
    dataset = open_rows(job, spool)
    assert dataset.scan.models == ("e", "m")
    lanes = {name: Model(name, name, {}, Limits()) for name in dataset.scan.models}
    first, third = all_requests(dataset, job, lanes["e"])
    (second,) = all_requests(dataset, job, lanes["m"])
    assert first.body == b'{"input":"x","model":"e","u":null}'
    assert [r.path for r in (first, second, third)] == ["/embeddings", "/chat/completions", "/chat/completions"]
    assert [r.row for r in (first, second, third)] == [0, 1, 2]
    assert [r.max_tokens for r in (first, second, third)] == [0, 14, None]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/chat/completions", "/chat/completions"),
        ("/v1/chat/completions/", "/chat/completions"),
        ("v1/chat/completions", "/chat/completions"),
        ("https://api.openai.com/v1/chat/completions", "/chat/completions"),
        ("https://openrouter.ai/api/v1/chat/completions", "/chat/completions"),
        ("/openai/deployments/my-4o/chat/completions?api-version=2024-10-21", "/chat/completions"),
        ("https://x.openai.azure.com/openai/deployments/e/embeddings?api-version=1", "/embeddings"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "/chat/completions"),
        ("/completions", "/completions"),
        ("/v1/responses", "/responses"),
    ],
)
def test_a_batch_lines_url_may_have_any_root(url: str, path: str, rows_file: Any, spool: Path) -> None:
    """The path below the root is sent to the job's own root."""
    job = make_job(rows_file([{"custom_id": "a", "url": url, "body": {"model": "m"}}]))
    assert [request.path for request in all_requests(open_rows(job, spool), job)] == [path]


def test_the_jobs_models_replace_those_of_batch_lines(rows_file: Any, spool: Path) -> None:
    """Then lines need no model."""
    lines = [{"custom_id": "a", "body": {"model": "x", "n": 1}}, {"custom_id": "b", "body": {"n": 1}}]
    job = make_job(rows_file(lines))
    dataset = open_rows(job, spool)
    assert dataset.scan.models == ()
    assert [r.body for r in all_requests(dataset, job)] == [
        b'{"model":"gpt-4o-mini","n":1}',
        b'{"n":1,"model":"gpt-4o-mini"}',
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"body": "x"}, "body is text; it must be an object"),
        ({}, "body is missing"),
        ({"body": {}}, "names no model in its body"),
        ({"body": {"model": 5}}, "names a model that is not plain text"),
        ({"body": {"model": "m"}, "method": "GET"}, "method must be POST"),
        ({"body": {"model": "m"}, "url": "/v2/x"}, "url must be an API path such as /v1/chat/completions"),
        ({"body": {"model": "m"}, "url": "/chat"}, "url must be an API path"),
        ({"body": {"model": "m"}, "url": "/v1/../chat/completions"}, "url must be an API path"),
        ({"body": {"model": "m"}, "url": ["/v1/x"]}, "url must be an API path"),
        ({"body": {"model": "m"}, "url": "http://[/v1/x"}, "url must be an API path"),
        (
            {"body": {"model": "m"}, "url": "/v1/rerank"},
            "the endpoint /rerank is not supported; use /chat/completions, /completions, /responses or /embeddings",
        ),
        ({"body": {"model": "m"}, "url": "/v1/messages"}, "the endpoint /messages is not supported"),
        ({"body": {"model": "m"}, "url": "/v1/moderations/"}, "the endpoint /moderations is not supported"),
        ({"body": {"model": "m"}, "url": "/v1/xcompletions"}, "the endpoint /xcompletions is not supported"),
        ({"body": {"model": "m", "background": True}, "url": "/v1/responses"}, "take background out of its body"),
        ({"body": {"model": "m", "stream": True}, "url": "/v1/responses"}, "requests a stream from /responses"),
        ({"body": {"model": "m", "stream": True}, "url": "/v1/embeddings"}, "take stream out of its body"),
        ({"body": {"model": "m", "stream": 1}}, "stream must be true or false"),
    ],
)
def test_an_invalid_batch_line_is_bad(line: Any, reason: str, rows_file: Any, spool: Path) -> None:
    """A rejected row of a line without a model finishes exactly once, under the first model."""
    good = [{"custom_id": "g", "body": {"model": name}} for name in ("one", "two")]
    path = rows_file([*good, {"custom_id": "b", **line}])
    with pytest.raises(InputError, match=rf"rows\.jsonl:3: .*{reason}"):
        open_rows(make_job(path, model=None), spool)
    job = make_job(path, model=None)
    dataset = open_rows(job, spool, reject_bad_rows=True)
    found = [r for n in dataset.scan.models for r in all_requests(dataset, job, Model(n, n, {}, Limits()))]
    assert sorted(r.key for r in found) == [(0, "one", 0), (1, "two", 0), (2, "one", 0)]


def test_batch_lines_refuse_settings_that_do_not_apply(rows_file: Any, spool: Path) -> None:
    """Params and a system text are refused, and so are more than a hundred models."""
    path = rows_file([{"custom_id": "a", "body": {"model": "x"}}])
    with pytest.raises(JobError, match="params"):
        open_rows(make_job(path, settings={"params": {"n": 1}}), spool)
    with pytest.raises(JobError, match=r"input\.system"):
        open_rows(make_job(path, system="s"), spool)
    many = rows_file([{"custom_id": "a", "body": {"model": f"m{i}"}} for i in range(101)], "many.jsonl")
    with pytest.raises(InputError, match="more than 100 models"):
        open_rows(make_job(many, model=None), spool)
    none = rows_file([{"custom_id": "a", "body": {}}], "none.jsonl")
    with pytest.raises(InputError, match="no row names a model"):
        open_rows(make_job(none, model=None), spool, reject_bad_rows=True)
