"""A secret is removed in any spelling, JSON stays JSON, and ordinary text stays as it is."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.job.masking import shown_call
from batchmix.redact import Secrets
from tests.conftest import Bench
from tests.gateway import Gateway

KEY = "sk-Ab/9x_7Kq2mZ+abc123"
SECRETS = Secrets(KEY)


def escaped(text: str, form: str) -> str:
    return "".join(form.format(ord(char)) for char in text)


FORMS = {
    "plain": KEY,
    "slash": KEY.replace("/", "\\/"),
    "plus": KEY.replace("+", "\\u002b"),
    "all": escaped(KEY, "\\u{:04x}"),
    "capitals": escaped(KEY, "\\u{:04X}"),
    "first": "\\u0073" + KEY[1:],
    "last": KEY[:-1] + "\\u0033",
    "json in json": json.dumps(json.dumps(escaped(KEY, "\\u{:04x}")))[3:-3].replace("\\\\\\\\u", "\\\\u"),
    "url": "sk-Ab%2F9x_7Kq2mZ%2Babc123",
    "url, all": escaped(KEY, "%{:02X}"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_secret_is_found_in_any_spelling(form: str) -> None:
    body = b'{"a": "before %b after"}' % form.encode()
    assert json.loads(SECRETS.redacted(body)) == {"a": "before *** after"}
    assert SECRETS.redacted_text(f"before {form} after") == "before *** after"


@given(st.lists(st.sampled_from(["", "\\u{:04x}", "\\u{:04X}"]), min_size=len(KEY), max_size=len(KEY)), st.text())
def test_any_mixture_of_escapes_is_found_and_json_stays_json(forms: list[str], around: str) -> None:
    written = "".join(form.format(ord(char)) if form else char for form, char in zip(forms, KEY, strict=True))
    text = json.dumps(around)[1:-1]
    body = f'{{"content": "{text}{written}{text}", "n": 1}}'.encode()
    found = json.loads(SECRETS.redacted(body))
    assert found == {"content": f"{around}***{around}", "n": 1}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("decoys", [0, 1, 100])
def test_a_secret_is_found_among_escapes_of_other_characters(form: str, decoys: int) -> None:
    """Beyond a few, escapes are searched in another way."""
    other = " 100% \\u00e9 %E9" * decoys
    data = f'{{"choices": "{other}{form}{other}"}}'.encode()
    assert SECRETS.redacted(data) == f'{{"choices": "{other}***{other}"}}'.encode()
    assert SECRETS.redacted(data.replace(form.encode(), b"key")) == data.replace(form.encode(), b"key")
    assert Secrets().redacted(data) is data


@pytest.mark.parametrize("number", range(13))
@pytest.mark.parametrize("written", [KEY, escaped(KEY, "\\u{:04x}")], ids=["plain", "escaped"])
def test_backslashes_before_a_secret_leave_json_as_it_was(written: str, number: int) -> None:
    around = json.dumps("\\" * number)[1:-1]
    found = json.loads(SECRETS.redacted(f'{{"a": "{around}{written}"}}'.encode()))["a"]
    assert found.endswith("***")
    assert found.strip("\\") == "***"


@pytest.mark.parametrize(
    "shown",
    ["sk-Ab**********c123", "***abc123", "…abc123", "...abc123", "sk-***abc123", "•••••c123", "sk-Ab/9…+abc123"],
)
def test_the_visible_characters_of_a_masked_key_are_removed_with_the_mask(shown: str) -> None:
    for body in (json.dumps({"m": f"key {shown}, bad"}), json.dumps({"m": f"key {shown}, bad"}, ensure_ascii=False)):
        assert json.loads(SECRETS.redacted(body.encode(), refusal=True)) == {"m": "key ***, bad"}
        if "abc123" in shown:  # common text is searched for by its last six characters
            assert json.loads(SECRETS.redacted(body.encode())) == {"m": "key ***, bad"}
    assert SECRETS.redacted_text(f"key {shown}, bad") == "key ***, bad"
    assert SECRETS.redacted_text("the key ending in 'abc123' is bad") == "the key ending in '***' is bad"


def test_the_last_characters_of_a_key_are_removed_from_refusals_only() -> None:
    assert SECRETS.redacted(b"token abc123 is invalid", refusal=True) == b"token *** is invalid"
    for masked in ("\u25cf\u25cfabc123", "--abc123", "\u00d7abc123"):
        for ascii_only in (True, False):
            body = json.dumps({"m": masked}, ensure_ascii=ascii_only).encode()
            assert b"abc123" not in SECRETS.redacted(body, refusal=True)
    assert Secrets("my-secret-tokens").redacted(b"no tokens left", refusal=True) == b"no tokens left"


@pytest.mark.parametrize(
    "text",
    [
        "say abc123",
        "**bold** abc123",
        "...and abc1234",
        "100%25 c123",
        "\\u00e9 c123",
        "xabc123",
        "***abc1234",
        "a\tc123",
    ],
)
def test_ordinary_text_stays_unchanged(text: str) -> None:
    for body in (text.encode(), json.dumps(text).encode()):
        assert SECRETS.redacted(body) is body
    assert SECRETS.redacted_text(text) is text


def test_json_that_only_resembles_a_secret_stays() -> None:
    secrets = Secrets("token-0123456789")
    body = json.dumps("\token-0123456789").encode()
    assert secrets.redacted(body) == body
    assert json.loads(secrets.redacted(json.dumps("\\token-0123456789").encode())) == "\\***"


@pytest.mark.parametrize("run", ["*", ".", "\\", "…", "\\u2022", "%73", "s", "\\u0073", "sk-Ab*", "ends "])
def test_no_body_takes_long_to_redact(run: str) -> None:
    body = (run * 50_000 + f" {KEY} abc123").encode()
    began = time.process_time()
    assert KEY.encode() not in SECRETS.redacted(body, refusal=True)
    assert time.process_time() - began < 3


def test_a_secret_is_removed_from_a_body_in_utf_16() -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        assert "abc123" not in SECRETS.redacted(f"key {KEY} bad".encode(encoding)).replace(b"\0", b"").decode("latin-1")


def test_short_values_and_header_schemes_are_no_secrets() -> None:
    secrets = Secrets("none", {"X-Title": "my application", "Authorization": "Bearer 0123456789ab"})
    assert secrets.redacted(b"none of the application/json") == b"none of the application/json"
    assert secrets.redacted(b"got 0123456789ab") == b"got ***"


def test_no_form_of_the_key_reaches_a_file(bench: Bench, gateway: Gateway) -> None:
    """Neither in a part of an answer, nor in a refusal, nor where parts are joined."""
    message = {
        "content": "@",
        "reasoning_content": "@",
        "refusal": "@",
        "tool_calls": [{"function": {"arguments": "@"}}],
    }
    answer = json.dumps({"model": "@", "choices": [{"message": message, "finish_reason": "stop"}], "usage": None})
    parts = [{"type": "text", "text": KEY[:9]}, {"type": "text", "text": KEY[9:]}]
    pieces = json.dumps({"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]})
    refusal = '{"error": {"message": "Bad prompt: @ (ends in abc123), sk-A****c123", "code": "@"}}'
    gateway.raw = [text.replace("@", form).encode() for form in FORMS.values() for text in (answer, refusal)]
    gateway.raw.append(pieces.encode())
    bench.settings["provider"] = {"base_url": f"{gateway.url}/v1", "api_key_env": ""}
    bench.settings |= {"limits": {"concurrency": 1}, "retry": {"attempts": 1}}
    bench.write(2 * len(FORMS) + 1)
    bench.run(key=KEY, keep_going=True)
    rows = bench.rows()
    assert [row["status"] for row in rows] == [*["ok", "rejected"] * len(FORMS), "ok"]
    for row in rows:
        for column in ("response", "reasoning", "refusal", "tool_calls", "served_model", "error_message", "error_code"):
            plain = (row[column] or "").replace("\\", "")
            assert not any(part in plain for part in ("abc123", "c123", "62633132", "u0033")), (column, row[column])
        json.loads(row["raw"])
    assert {row["response"] for row in rows if row["status"] == "ok"} == {"***"}


CALLS: dict[tuple[str, ...], str] = {
    ("--set", "provider.headers.X=abc"): "--set 'provider.headers.X=***'",
    ("--set=provider.headers.X=abc",): "'--set=provider.headers.X=***'",
    ("--set", 'provider."headers".X=abc'): "--set 'provider.\"headers\".X=***'",
    ("--set", 'provider.headers={X="abc"}'): "--set 'provider.headers=***'",
    ("--set", 'provider={headers={X="abc"}}'): "--set 'provider=***'",
    ("--set", "provider.headers.X=env:NAME"): "--set provider.headers.X=env:NAME",
    ("--set", "params.api_key=abc"): "--set 'params.api_key=***'",
    ("--set", 'params={x-api-key="abc", user="u"}'): '--set \'params={x-api-key="***", user="u"}\'',
    ("--set", 'params.extra={"token": "abc"}'): '--set \'params.extra={"token": "***"}\'',
    ("--base-url", "https://me:abc@host/v1?key=abc&a=b"): "--base-url 'https://***@host/v1?key=***&a=b'",
    ("--base-url=http://host/?api-key=abc",): "'--base-url=http://host/?api-key=***'",
    ("--set", "params.max_tokens=8", "--model", "key"): "--set params.max_tokens=8 --model key",
}


@pytest.mark.parametrize("call", CALLS)
def test_a_command_is_shown_without_values_that_may_be_secret(call: Any) -> None:
    assert shown_call(call) == CALLS[call]
