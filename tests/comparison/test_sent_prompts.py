"""Prompts are shown as they were sent, whatever their form."""

from __future__ import annotations

from batchmix.comparison.sent_prompts import Turn, turns_of


def test_each_form_of_a_prompt_becomes_turns() -> None:
    picture = "data:image/png;base64," + "A" * 5_000
    body = {
        "model": "m",
        "instructions": "Be kind.",
        "messages": [
            {"role": "system", "content": "one"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "two"}, {"type": "image_url", "image_url": {"url": picture}}],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]},
        ],
    }
    assert list(turns_of(body)) == [
        Turn("instructions", "Be kind."),
        Turn("system", "one"),
        Turn(
            "user",
            'two\n{"type": "image_url", "image_url": {"url": "' + picture[:60] + '… (5,022 characters)"}}',
        ),
        Turn("assistant", '{"tool_calls": [{"id": "c1"}]}'),
    ]
    assert list(turns_of({"input": ["a", [1, 2]]})) == [Turn("input", "a"), Turn("input", "1\n2")]
    assert list(turns_of({"prompt": "x"})) == [Turn("input", "x")]
    assert list(turns_of({})) == []
