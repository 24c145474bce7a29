from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmix.job import Input, Limits, Model
from batchmix.load import json_texts
from batchmix.load.json_texts import decode_row_but
from batchmix.load.jsonl import BadLineError, decode_row
from batchmix.load.messages import MessageRows
from batchmix.load.prompt_sources import TemplatePrompts
from batchmix.load.prompts import PromptSource
from batchmix.load.requests import RequestBuilder
from batchmix.load.template import Template
from tests.load.conftest import make_job, open_rows, requests_of

_texts = st.text('aé/"\\\n', max_size=6) | st.text(
    st.sampled_from("漢🙂\t\x7f\x01u0\u2028") | st.characters(), max_size=12
)
_odd = st.sampled_from([None, 7, 1e999, -0.0, 10**30, ["a"], {"b": "é"}])
_rows = st.fixed_dictionaries({"text": _texts | _odd, "more": _texts | _odd})
_messages = st.none() | st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": _texts}), max_size=2)


def _built(source: PromptSource, line: bytes, *, as_written: bool) -> Any:
    """Return the requests of a line's row, or the reason why there are none."""
    try:
        row = decode_row_but(source.json_columns, line) if as_written else decode_row(line)
    except BadLineError as error:
        return str(error)
    builder = RequestBuilder(source, Model("m", "m", {"temperature": 0.5}, Limits()), 2, "/v1", None)
    return source.problem(row) or builder.requests(0, row, None)


def _prompts(prompt: str) -> PromptSource:
    return TemplatePrompts(Template(Input("rows.jsonl", prompt=prompt)))


def _line(row: dict[str, Any], *, ascii_only: bool, slashes: bool) -> bytes:
    written = json.dumps(row, ensure_ascii=ascii_only)
    return (written.replace("/", "\\/") if slashes else written).encode("utf-8", "surrogatepass")


@pytest.fixture(autouse=True)
def _of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_texts, "_LONG_BYTES", 0)


@settings(max_examples=60, deadline=None)
@given(
    _rows, st.booleans(), st.booleans(), st.sampled_from(["Say {{ text }}", "{{ more }} {{text}} é", "{{ text|trim }}"])
)
def test_requests_and_hashes_are_the_same_however_a_text_is_written(
    row: dict[str, Any], ascii_only: bool, slashes: bool, prompt: str
) -> None:
    """Whether a text is decoded or sent as it stands in its line is not seen in any request."""
    line, source = _line(row, ascii_only=ascii_only, slashes=slashes), _prompts(prompt)
    assert _built(source, line, as_written=True) == _built(source, line, as_written=False)


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({}, optional={"prompt": _texts | _odd, "messages": _messages}), st.booleans())
def test_rows_with_their_own_prompts_make_the_same_requests(row: dict[str, Any], ascii_only: bool) -> None:
    line, source = _line(row, ascii_only=ascii_only, slashes=False), MessageRows(make_job("rows.jsonl"), None)
    assert _built(source, line, as_written=True) == _built(source, line, as_written=False)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=8))
def test_a_line_is_refused_in_the_same_words(odd: bytes) -> None:
    line, source = b'{"text": "' + odd + b'", "more": ""}', _prompts("{{ text }}")
    assert _built(source, line, as_written=True) == _built(source, line, as_written=False)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b'{"text": "plain", "id": "plain", "n": 1}', ["text"]),
        ('{"text": "é\\n\\"", "id": "é"}'.encode(), ["text"]),
        (b'{"text": "\\u00e9"}', []),
        ('{"text": "é\\/"}'.encode(), []),
        (b'{"text": 1}', []),
        (b'{"text": "plain", "n": 1e999, "m": [1e999]}', ["text"]),
    ],
)
def test_texts_stay_as_they_are_only_if_msgspec_would_write_them_so(line: bytes, kept: list[str]) -> None:
    row = decode_row_but({"text"}, line)
    assert [name for name, value in row.items() if type(value) is json_texts.msgspec.Raw] == kept
    assert {name: json_texts.decode_json_text(value) for name, value in row.items()} == json.loads(line)


@pytest.mark.parametrize(
    ("input_settings", "columns"),
    [
        ({"prompt": "{{ text }} {{ x }}"}, {"text", "x"}),
        ({"prompt": "{{ text|upper }}"}, set()),
        ({"prompt": "{{ row.text }}"}, set()),
        ({"prompt": "{{ text }}", "columns": [{"from": "text", "to": "t", "type": "string"}]}, set()),
        ({}, {"prompt"}),
        ({"prompt": "{{ text }}", "params": "x"}, {"text"}),
    ],
)
def test_only_texts_that_nothing_reads_stay_as_they_are(
    input_settings: dict[str, Any], columns: set[str], rows_file: Any, spool: Any
) -> None:
    rows = [{"prompt": "p", "text": "t", "x": {}}]
    job = make_job(rows_file(rows), **input_settings)
    dataset = open_rows(job, spool)
    assert dataset._prompts.json_columns - {"x"} == columns - {"x"}
    assert len(requests_of(dataset, job, 0)) == 1
