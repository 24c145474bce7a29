"""Few-shot examples stand before the prompt, made by the prompt's own template."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.api.examples import with_examples
from batchmix.errors import JobError
from batchmix.job.values import Input
from batchmix.load.template import Template


def messages(source: Input, examples: Any, row: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the messages of a request for a row."""
    return [(one["role"], one["content"]) for one in Template(with_examples(source, examples)).render(row)]


def test_each_example_is_a_question_made_by_the_prompt_and_an_answer() -> None:
    source = Input("-", prompt="Classify: {{ text }}", system="Say pos or neg.")
    assert messages(source, [("I loved it", "pos"), ({"text": "Bad"}, "neg")], {"text": "Good"}) == [
        ("system", "Say pos or neg."),
        ("user", "Classify: I loved it"), ("assistant", "pos"),
        ("user", "Classify: Bad"), ("assistant", "neg"),
        ("user", "Classify: Good"),
    ]  # fmt: skip


def test_a_prompt_of_several_columns_takes_examples_with_all_of_them() -> None:
    source = Input("-", prompt='{{ a }} or {{ row["b c"] }}')
    row = {"a": "1", "b c": "2"}
    assert messages(source, [({"a": "x", "b c": "y"}, "z")], row)[0] == ("user", "x or y")
    with pytest.raises(JobError, match="the prompt reads a and b c, so the question is a dict with a value for each"):
        messages(source, [("x", "z")], row)
    with pytest.raises(JobError, match=r"examples\[0\]: input.prompt: undefined value"):
        messages(source, [({"a": "x"}, "z")], row)


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text("{}%#\"\\'- a\n"))
def test_an_example_is_sent_as_it_is_whatever_tags_it_holds(text: str) -> None:
    source = Input("-", prompt="{{ text }}")
    assert messages(source, [(text, text)], {"text": "?"}) == [("user", text), ("assistant", text), ("user", "?")]


@pytest.mark.parametrize(
    ("source", "examples", "message"),
    [
        (Input("-"), [("a", "b")], "go with prompt"),
        (Input("-", prompt="{{ a }}"), ["ab", 3], "is a list of pairs"),
        (Input("-", prompt="{{ a }}"), {"a": "b"}, "is a list of pairs"),
    ],
)
def test_other_examples_are_refused(source: Input, examples: Any, message: str) -> None:
    with pytest.raises(JobError, match=f"^examples: {message}"):
        with_examples(source, examples)
