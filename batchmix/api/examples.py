"""Few-shot examples: pairs of a question and its answer, which become messages before the prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from batchmix.errors import JobError
from batchmix.job.values import Input

Examples = Sequence[tuple[str | Mapping[str, Any], str]]


def with_examples(source: Input, examples: Any) -> Input:
    """Return the input with its prompt as messages: the system message, the examples, then the prompt.

    Each question is made by the prompt's own template. Raises `JobError`, which names the example.
    """
    from batchmix.load.template import BadRowError, Template

    if source.prompt is None:
        raise JobError("examples: go with prompt; where the rows or the job have messages, put the examples there")
    template = Template(Input(source.path, prompt=source.prompt))
    columns = sorted(template.required)
    messages: list[dict[str, Any]] = [] if source.system is None else [{"role": "system", "content": source.system}]
    for number, example in enumerate(_pairs(examples)):
        question, answer = example
        if isinstance(question, str) and len(columns) != 1:
            raise JobError(
                f"examples[{number}]: the prompt reads {' and '.join(columns) or 'no column'}, so the question is a"
                " dict with a value for each column"
            )
        values = {columns[0]: question} if isinstance(question, str) else question
        try:
            asked = template.render(values)[0]["content"]
        except BadRowError as error:
            raise JobError(f"examples[{number}]: {error}") from None
        messages += [{"role": "user", "content": _literal(asked)}, {"role": "assistant", "content": _literal(answer)}]
    messages.append({"role": "user", "content": source.prompt})
    return msgspec.structs.replace(source, prompt=None, system=None, messages=tuple(messages))


def _pairs(examples: Any) -> list[tuple[str | dict[str, Any], str]]:
    try:
        return msgspec.convert(examples, list[tuple[str | dict[str, Any], str]])
    except msgspec.ValidationError:
        raise JobError(
            'examples: is a list of pairs, each a question and its answer, such as [("I loved it", "pos")]'
        ) from None


def _literal(text: str) -> str:
    """Return a template that prints a text, whatever tags it holds."""
    if "{" not in text:
        return text
    quoted = json.dumps(text)
    for char in "{}%":
        quoted = quoted.replace(char, f"\\u{ord(char):04x}")
    return f"{{{{ {quoted} }}}}"
