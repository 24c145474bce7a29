"""An export as OpenAI batch files conforms to that format and to the types of the openai package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchmix.engine import reader
from batchmix.errors import UsageError
from tests.conftest import Bench


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def mixed(bench: Bench) -> Bench:
    texts = ["plain", "[[rehearsal:400]]", "[[rehearsal:tools]]", "[[rehearsal:cut]]", "[[rehearsal:refusal]]"]
    bench.source.write_text("".join(json.dumps({"id": f"c{n}", "text": text}) + "\n" for n, text in enumerate(texts)))
    bench.settings["retry"] = {"attempts": 1}
    return bench


@pytest.mark.parametrize("raw", [True, False])
def test_answers_and_errors_are_exported_to_separate_files(mixed: Bench, tmp_path: Path, raw: bool) -> None:
    types = pytest.importorskip("openai.types.chat")
    mixed.settings["output"]["raw"] = raw
    mixed.run()
    rows, warnings = reader.export(mixed.out, tmp_path / "output.jsonl", openai_batch=True)
    assert (rows, warnings) == (5, [])
    good, bad = lines(tmp_path / "output.jsonl"), lines(tmp_path / "output-errors.jsonl")
    assert [line["custom_id"] for line in good] == ["c0", "c2", "c4"]
    expected = {row["custom_id"]: row for row in mixed.rows()}
    for line in good:
        assert set(line) == {"id", "custom_id", "response", "error"}
        assert (line["error"], line["response"]["status_code"]) == (None, 200)
        row = expected[line["custom_id"]]
        completion = types.ChatCompletion.model_validate(line["response"]["body"], strict=True)
        assert completion.choices[0].message.content == row["response"]
        assert completion.choices[0].message.refusal == row["refusal"]
        assert bool(completion.choices[0].message.tool_calls) == (row["tool_calls"] is not None)
        assert completion.usage.total_tokens == row["total_tokens"]
    assert [line["custom_id"] for line in bad] == ["c1", "c3"]
    assert all(line["error"]["code"] and line["error"]["message"] for line in bad)
    assert (bad[0]["response"] or {}).get("status_code") == (400 if raw else None)
    assert bad[1]["response"] is None


def test_ids_are_unique_when_rows_have_several_results(mixed: Bench, tmp_path: Path) -> None:
    mixed.settings["samples"] = 2
    mixed.run()
    reader.export(mixed.out, tmp_path / "output.jsonl", openai_batch=True)
    ids = [line["custom_id"] for name in ("output", "output-errors") for line in lines(tmp_path / f"{name}.jsonl")]
    assert len(ids) == len(set(ids)) == 10
    assert "c0/m/1" in ids


def test_a_batch_file_with_several_models_runs_unchanged_and_is_exported_as_one(bench: Bench, tmp_path: Path) -> None:
    """Each line's model, parameters and URL are sent; the job sets none."""
    types = pytest.importorskip("openai.types.chat")
    bodies = [
        {"model": ("gpt-4o-mini", "claude-x", "gpt-4o-mini")[number % 3], "max_tokens": 5 + number % 4, "seed": number,
         "messages": [{"role": "user", "content": f"q{number}" if number != 7 else "[[rehearsal:400]]"}]}
        for number in range(30)
    ]  # fmt: skip
    asked = [
        {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number, body in enumerate(bodies)
    ]
    bench.source.write_text("".join(json.dumps(line) + "\n" for line in asked))
    del bench.settings["model"], bench.settings["input"]["prompt"]
    bench.run()
    reader.export(bench.out, tmp_path / "out.jsonl", openai_batch=True)
    good, bad = lines(tmp_path / "out.jsonl"), lines(tmp_path / "out-errors.jsonl")
    assert [line["custom_id"] for line in bad] == ["c7"]
    found = {
        line["custom_id"]: types.ChatCompletion.model_validate(line["response"]["body"], strict=True) for line in good
    }
    assert set(found) == {f"c{number}" for number in range(30)} - {"c7"}
    for number, body in enumerate(bodies):
        if number != 7:
            assert found[f"c{number}"].model == body["model"]
            assert found[f"c{number}"].usage.completion_tokens <= body["max_tokens"]
    assert {row["model"] for row in bench.rows()} == {"gpt-4o-mini", "claude-x"}


@pytest.mark.parametrize("raw", [True, False])
def test_answers_of_other_endpoints_are_exported_unchanged_or_refused(bench: Bench, tmp_path: Path, raw: bool) -> None:
    """Without raw bodies only chat completions can be rebuilt, so other endpoints are refused."""
    chat = {"custom_id": "a", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "x"}]}}
    others = [{"custom_id": "b", "url": f"/v1/{name}", "body": {"input": "x"}} for name in ("responses", "embeddings")]
    bench.settings["input"] = {"path": str(bench.source)}
    bench.settings["output"]["raw"] = raw
    out = tmp_path / "output.jsonl"
    bench.source.write_text(json.dumps(chat) + "\n")
    bench.run()
    assert reader.export(bench.out, out, openai_batch=True) == (1, [])
    bench.source.write_text("".join(json.dumps(line) + "\n" for line in (chat, *others)))
    bench.run()
    if raw:
        reader.export(bench.out, out, openai_batch=True)
        bodies = [line["response"]["body"]["object"] for line in lines(out)]
        assert bodies == ["chat.completion", "response", "list"]
        return
    with pytest.raises(UsageError, match=r"raw = false.*/responses \(row 1\) are not chat completions"):
        reader.export(bench.out, out, openai_batch=True)
    assert len(lines(out)) == 1
    assert reader.export(bench.out, tmp_path / "all.jsonl")[0] == 3
    bench.source.unlink()
    with pytest.raises(UsageError, match=r"raw = false.*are unknown without the input"):
        reader.export(bench.out, out, openai_batch=True)
