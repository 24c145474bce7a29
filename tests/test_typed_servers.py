"""Typed answers with servers of other projects: llama.cpp, whose grammar makes them fit, and LiteLLM's proxy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchmix.answers.typed import INVALID
from batchmix.errors import BatchmixError
from tests.calling import MARKER
from tests.conftest import Bench
from tests.serving import litellm_environment, litellm_serving, tiny_model_serving

REVIEW = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "again": {"type": "boolean"},
        "codes": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{1,4}$"}, "maxItems": 3},
    },
    "required": ["mood", "stars", "again", "codes"],
    "additionalProperties": False,
}


@pytest.fixture
def tiny(bench: Bench, tmp_path: Path) -> Iterator[Bench]:
    """A job with typed answers of llama.cpp, whose model has random weights."""
    with tiny_model_serving(tmp_path / "tiny.gguf") as url:
        bench.settings |= {
            "provider": {"base_url": f"{url}/v1", "api_key_env": ""},
            "answer": {"schema": REVIEW},
            "limits": {"concurrency": 4},
        }
        yield bench


@pytest.mark.parametrize("stream", [False, True])
def test_llama_cpp_answers_by_the_grammar_of_the_schema(tiny: Bench, stream: bool) -> None:
    tiny.settings["params"] = {"max_tokens": 300, "stream": stream}
    tiny.write(30)
    tiny.run()
    rows = tiny.rows()
    for row in rows:
        if row["answer"] is None:  # a random model may write blanks where the grammar allows them
            assert (row["status"], row["error_type"], row["error_code"]) == ("failed", INVALID, "")
            assert row["error_message"].startswith("the answer was cut off")
        else:
            assert (row["status"], row["healed"]) == ("ok", False)
            assert row["answer"] == json.loads(row["response"])
            assert row["answer"]["mood"] in {"good", "bad"}
            assert row["answer"]["stars"] in range(1, 6)
    assert sum(row["answer"] is not None for row in rows) > 20


@pytest.mark.parametrize("send", ["json_object", "prompt"])
def test_a_model_that_is_not_held_to_the_schema_is_stopped_after_20_answers(tiny: Bench, send: str) -> None:
    tiny.settings["params"] = {"max_tokens": 30}
    tiny.settings["answer"] |= {"send": send, "repair": 0}
    tiny.write(40)
    with pytest.raises(BatchmixError, match="the first 20 answers do not fit the schema: "):
        tiny.run()
    assert not list((tiny.out / "data").glob("*"))
    tiny.settings["answer"] |= {"on_invalid": "keep"}
    tiny.run(keep_going=True)
    rows = [row for row in tiny.rows() if row["error_type"] != "server_error"]
    assert len(rows) > 30  # llama.cpp answers with 500 if it can't read what its model wrote
    for row in rows:
        assert (row["status"], row["answer"], row["healed"], row["repairs"]) == ("ok", None, None, 0)
        assert row["error_type"] == INVALID


# Without `thinking`: the proxy takes `<think>` out of the text itself.
KINDS = ["", "fenced", "chatty", "trailing_comma", "wrong_enum", "missing_key", "extra_key", "wrong_type"]
SAME = [
    "row", "status", "response", "answer", "healed", "repairs", "prompt_tokens", "completion_tokens", "cost_usd",
    "attempts", "error_type", "error_code", "error_message",
]  # fmt: skip
ASKED = ["prompt", "turns", "kind", "max_tokens", "asked"]


@pytest.mark.slow  # installs LiteLLM, unless it did so before
@pytest.mark.parametrize("send", ["response_format", "tool", "json_object", "prompt"])
def test_answers_through_litellms_proxy_are_the_same_as_without_it(
    bench: Bench, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, send: str
) -> None:
    write_marked_rows(bench.source)
    bench.settings |= {
        "answer": {"schema": REVIEW, "send": send},
        "prices": {"m": {"input": 1.0, "output": 2.0}},
        "params": {"max_tokens": 300},
    }
    bench.run()
    straight = pq.read_table(bench.out / "data", columns=SAME)
    first = bench.standin.ledger()
    assert len(first) > straight.num_rows  # some rows were asked again

    environment = litellm_environment(request.config)
    monkeypatch.setenv("PROXY_KEY", MARKER)
    with litellm_serving(environment, tmp_path, bench.standin.url, "m", MARKER) as url:
        bench.settings["provider"] = {"base_url": f"{url}/v1", "api_key_env": "PROXY_KEY"}
        bench.settings["output"] |= {"path": str(tmp_path / "through")}
        bench.run(key=MARKER)
    through = pq.read_table(tmp_path / "through" / "data", columns=SAME)
    for row, other in zip(through.to_pylist(), straight.to_pylist(), strict=True):
        # The proxy sends back a call's keys in another order, so that its repair is another request.
        names = SAME if send != "tool" or not row["repairs"] else ["row", "status", "healed", "repairs", "attempts"]
        assert {name: row[name] for name in names} == {name: other[name] for name in names}
        assert row["answer"] is not None
    assert asked(bench.standin.ledger()[len(first) :]) == asked(first)
    assert {record["asked"] for record in first} == {send}


def write_marked_rows(path: Path) -> None:
    """Write rows of which each says what kind of reply it gets, and one with an answer that is cut off at first."""
    texts = [f"[[rehearsal:{kind}]]" if kind else "" for kind in [*KINDS, "cut_off_answer"]]
    rows = [{"text": f"row {number} {text}"} for number, text in enumerate(texts * 3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def asked(records: list[dict[str, Any]]) -> list[str]:
    """Return how the provider was asked, without regard to the order."""
    return sorted(json.dumps({name: record[name] for name in ASKED}) for record in records)
