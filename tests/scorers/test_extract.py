"""JSON is found where people and models write it, and bad text takes little time."""

from __future__ import annotations

import json
import time

import pytest

from batchmix.formats.lenient_json import MAX_DEPTH
from batchmix.scorers.json_search import JsonFound, json_in


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{" * 1_000_000,
        "1," * 500_000,
        "((A" * 300_000,
        "-" * 1_000_000,
        "```\n" * 200_000,
        "1.234," * 200_000,
        "1/" * 400_000,
        "1 " * 400_000,
        "answer is " * 100_000,
    ],
)
def test_bad_text_costs_little_time(text: str) -> None:
    began = time.process_time()  # CPU time of this process, independent of the machine's load
    json_in(text, {"a": 1})
    json_in(text, [1])
    assert time.process_time() - began < 3


@pytest.mark.parametrize("depth", [150, 600, 990, 5000])
def test_deeply_nested_json_is_read_to_the_same_depth_from_anywhere_in_the_stack(depth: int) -> None:
    """At any depth of the stack, so a text that is scored twice has the same score twice."""

    def deeper(levels: int, text: str) -> object:
        return deeper(levels - 1, text) if levels else json_in(text, {})

    nested = '{"a": 1, "b": ' + "[" * depth + "7" + "]" * depth + "}"
    for text in (nested, f"```json\n{nested}\n```", f"It is {nested}, I think", "[" * depth + nested):
        found = json_in(text, {})
        assert deeper(400, text) == found
        if text[0] != "[":
            assert isinstance(found, JsonFound)
            assert found.value["a"] == 1
            assert json.dumps(found.value).count("[") == MAX_DEPTH - 1
