"""Requests for Claude are marked where what they share ends, and say the same as without marks."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.engine.cache_marks import with_cache_marks
from batchmix.engine.prefixes import Prefix, PrefixTree
from tests.conftest import Bench

MARK = {"type": "ephemeral"}
LONG = 'A line of "words" é😀 \\ end.\n' * 300
OTHER = "Another text.\n" * 500


def body(*messages: tuple[str, Any], **more: Any) -> bytes:
    return msgspec.json.encode(
        {"model": "claude-x", "messages": [{"role": role, "content": content} for role, content in messages], **more}
    )


def sent(bodies: list[bytes], life: str = "5m") -> list[list[Any]]:
    """Return the contents of the messages of each body as it is sent."""
    tree = PrefixTree("claude-x", is_marked=True)
    found = [tree.add(each) for each in bodies]
    marked = [with_cache_marks(each, prefix, life) for each, prefix in zip(bodies, found, strict=True)]
    return [[message["content"] for message in json.loads(each)["messages"]] for each in marked]


def text(value: str, mark: dict[str, str] | None = None) -> dict[str, Any]:
    return {"type": "text", "text": value} | ({"cache_control": mark} if mark else {})


def test_a_shared_message_is_marked_at_its_end() -> None:
    bodies = [body(("system", LONG), ("user", f"{row} questions")) for row in range(3)]
    for row, (system, user) in enumerate(sent(bodies)):
        assert system == [text(LONG, MARK)]
        assert user == f"{row} questions"


def test_a_text_is_cut_at_the_last_line_that_is_shared() -> None:
    bodies = [body(("user", f"{LONG}\nQuestion: What is {row}?")) for row in range(3)]
    for row, (user,) in enumerate(sent(bodies, "1h")):
        assert user == [text(f"{LONG}\n", {"type": "ephemeral", "ttl": "1h"}), text(f"Question: What is {row}?")]


def test_each_level_has_a_mark() -> None:
    bodies = [
        body(("system", LONG), ("user", f"{OTHER * 1}{letter * 3000}\nQuestion {row}"))
        for letter in "ab"
        for row in range(2)
    ]
    system, user = sent(bodies)[-1]
    assert system == LONG
    assert user == [text(OTHER, MARK), text("b" * 3000 + "\n", MARK), text("Question 1")]


def test_parts_are_marked_as_they_are() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}
    bodies = [body(("user", [picture, {"type": "text", "text": f"{row} what?"}])) for row in range(2)]
    for row, (user,) in enumerate(sent(bodies)):
        assert user == [{**picture, "cache_control": MARK}, text(f"{row} what?")]


@pytest.mark.parametrize(
    "bodies",
    [
        [body(("user", f"{row}{LONG}")) for row in range(2)],
        [body(("user", [text(LONG, MARK), text(f"{row}")])) for row in range(2)],
        [body(("user", "x" * 9000 + str(row))) for row in range(2)],
    ],
    ids=["nothing shared", "marks of its own", "no place to cut"],
)
def test_other_requests_stay_as_they_are(bodies: list[bytes]) -> None:
    assert sent(bodies) == [[message["content"] for message in json.loads(each)["messages"]] for each in bodies]


@given(st.text(max_size=40), st.integers(0, 60_000), st.text(max_size=20))
def test_the_text_is_the_same_wherever_it_is_cut(odd: str, size: int, question: str) -> None:
    odd = odd.encode("utf-8", "replace").decode()
    question = question.encode("utf-8", "replace").decode()
    one = body(("system", odd), ("user", odd * 20 + LONG + odd * 20 + question), ("user", question), temperature=0)
    upper = Prefix(one[: size % len(one)], None)
    upper.is_used = True
    changed = json.loads(with_cache_marks(one, upper, "5m"))
    for message in changed["messages"]:
        if isinstance(message["content"], list):
            assert all(part["text"] for part in message["content"])
            message["content"] = "".join(part["text"] for part in message["content"])
    assert changed == json.loads(one)


def test_a_run_pays_for_writing_once_and_a_resume_with_marks_asks_nothing_again(bench: Bench) -> None:
    bench.write(20)
    bench.settings |= {"model": "claude-x", "cache": {"mark": "5m"}}
    bench.settings["input"]["prompt"] = LONG + "Say {{ text }}"
    bench.settings["prices"] = {"claude-x": {"input": 1.0, "output": 1.0, "cache_read": 0.1, "cache_write": 1.25}}
    bench.standin.behave("cache=marked&price=1-1&latency=0.02")
    bench.run(limit=5)
    assert sorted(bool(row["cached_tokens"]) for row in bench.rows()) == [False, True, True, True, True]
    bench.settings["cache"] = {}
    bench.run()
    bench.settings["cache"] = {"mark": "1h"}
    bench.run()
    assert bench.standin.request_count() == 20
    rows = bench.rows()
    assert [bool(row["cache_write_tokens"]) for row in rows[:5]].count(True) == 1
    assert not any(row["cached_tokens"] or row["cache_write_tokens"] for row in rows[5:])
