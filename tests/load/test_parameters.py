"""Which requests are streamed, and how streaming changes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchmix.errors import JobError
from batchmix.job import Limits, Model
from batchmix.responses.streaming import STREAMED_ABOVE_TOKENS, as_stream, streamed_choices
from tests.load.conftest import all_requests, make_job, open_rows

CHAT = "/chat/completions"
LONG, SHORT = STREAMED_ABOVE_TOKENS + 1, STREAMED_ABOVE_TOKENS


@pytest.mark.parametrize(
    ("path", "body", "choices"),
    [
        (CHAT, {}, 0),
        (CHAT, {"stream": True}, 1),
        (CHAT, {"stream": True, "n": 3}, 3),
        (CHAT, {"stream": False, "max_tokens": LONG}, 0),
        (CHAT, {"stream": None, "max_tokens": LONG}, 1),
        (CHAT, {"max_tokens": LONG, "n": 2}, 2),
        (CHAT, {"max_tokens": SHORT}, 0),
        (CHAT, {"max_completion_tokens": LONG}, 1),
        (CHAT, {"max_completion_tokens": None, "max_tokens": LONG}, 1),
        (CHAT, {"max_tokens": "9999999"}, 0),
        ("/completions", {"prompt": "x", "stream": True}, 1),
        ("/completions", {"prompt": ["x", "y"], "n": 2, "stream": True}, 4),
        ("/completions", {"prompt": [1, 2, 3], "stream": True}, 1),
        ("/completions", {"prompt": [[1], [2]], "stream": True}, 2),
        ("/completions", {"prompt": [], "stream": True}, 1),
        ("/completions", {"prompt": "x", "max_tokens": LONG, "best_of": 2}, 0),
        ("/responses", {"max_output_tokens": LONG}, 0),
        ("/embeddings", {"max_tokens": LONG}, 0),
    ],
)
def test_streaming_follows_from_the_body_and_its_length(path: str, body: dict[str, Any], choices: int) -> None:
    assert streamed_choices(path, body) == choices


def test_a_stream_is_requested_with_its_usage_unless_the_body_says_otherwise() -> None:
    usage = {"include_usage": True}
    assert as_stream({"a": 1}) == {"a": 1, "stream": True, "stream_options": usage}
    assert as_stream({"stream_options": {"x": 1}})["stream_options"] == {**usage, "x": 1}
    assert as_stream({"stream_options": {"include_usage": False}})["stream_options"] == {"include_usage": False}
    assert as_stream({"stream_options": None})["stream_options"] == usage


def test_streaming_by_the_jobs_params_keeps_the_hash(rows_file: Any, spool: Path) -> None:
    path = rows_file([{"prompt": "x"}])
    plain, streamed, never = (
        all_requests(open_rows(job, spool), job)[0]
        for job in (make_job(path, settings={"params": params}) for params in ({}, {"stream": True}, {"stream": False}))
    )
    assert (plain.streamed_choices, streamed.streamed_choices, never.streamed_choices) == (0, 1, 0)
    assert plain.hash == streamed.hash == never.hash
    body = json.loads(streamed.body)
    assert (body.pop("stream"), body.pop("stream_options")) == (True, {"include_usage": True})
    assert body == json.loads(plain.body)


def test_each_model_sets_streaming_for_itself(rows_file: Any, spool: Path) -> None:
    models = [{"id": "a", "params": {"stream": True, "n": 2}}, {"id": "b", "params": {"max_tokens": LONG}}, {"id": "c"}]
    job = make_job(rows_file([{"prompt": "x"}]), model=None, settings={"models": models})
    dataset = open_rows(job, spool)
    assert [all_requests(dataset, job, model)[0].streamed_choices for model in job.models] == [2, 1, 0]


def test_each_batch_line_sets_streaming_for_itself(rows_file: Any, spool: Path) -> None:
    bodies = [{"stream": True}, {}, {"stream": False, "max_tokens": LONG}, {"max_tokens": LONG}]
    lines = [{"custom_id": str(at), "body": {"model": "m", **body}} for at, body in enumerate(bodies)]
    job = make_job(rows_file(lines), model=None)
    found = all_requests(open_rows(job, spool), job, Model("m", "m", {}, Limits()))
    assert [request.streamed_choices for request in found] == [1, 0, 0, 1]
    assert [json.loads(request.body).get("stream") for request in found] == [True, None, False, True]


@pytest.mark.parametrize("value", ["yes", 1, []])
def test_stream_must_be_true_or_false(value: object) -> None:
    with pytest.raises(JobError, match=r"params\.stream: must be true or false"):
        make_job("rows.jsonl", settings={"params": {"stream": value}})
