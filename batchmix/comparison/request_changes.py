"""Says what differs between the requests of two runs: models, parameters, prompts, the schema of the answers."""

from __future__ import annotations

import difflib
import itertools
import json
import re
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from batchmix.comparison.pairing import ComparedRun, ModelPairs
from batchmix.comparison.sent_prompts import turns_of
from batchmix.engine import reader
from batchmix.engine.sent_requests import sent_requests
from batchmix.errors import BatchmixError
from batchmix.job import CheckedJob

_CONTEXT = 2
"""The number of equal lines that a text difference shows around each change."""
_MAX_LINES = 400
"""The most lines of a text that are compared."""
_MAX_TEXT_CHARS, _LINE_CHARS = 100_000, 100
"""The most characters of a text that are compared, and of each line of a difference."""
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+")
_PROMPTS = frozenset({"model", "messages", "input", "prompt", "instructions"})
"""The keys of a body that are no parameters."""
_MISSING = "none"


class RequestChange(msgspec.Struct, frozen=True):
    """Something that differs between the requests of two runs. Its texts are as they were sent, unescaped."""

    what: str
    """Such as `id of m`, `temperature of m`, `prompt`."""
    before: str
    """The value in the earlier run, as text. Empty if `lines` says it all."""
    after: str
    lines: tuple[str, ...] = ()
    """The difference of two longer texts, a line each, which begins with a space, `-` or `+`."""

    @property
    def heading(self) -> str:
        """What differs, in words, with the values if they are short."""
        values = f": {self.before} → {self.after}" if self.before or self.after else ""
        return f"{self.what} differs{values}"


def request_changes(old: ComparedRun, new: ComparedRun, pairs: Sequence[ModelPairs]) -> Iterator[RequestChange]:
    """Yield what differs between the jobs from which the requests were made.

    If the jobs do not say why the prompts of pairs differ, the prompt of the first such pair stands for them.
    """
    earlier, later = (reader.job_of(run.layout.root) for run in (old, new))
    for pair in pairs:
        before, after = (_model(job, name) for job, name in ((earlier, pair.before_model), (later, pair.model)))
        for key in dict.fromkeys([*before, *after]):
            if before.get(key) != after.get(key):
                yield RequestChange(f"{key} of {pair.model}", _value(before, key), _value(after, key))
    if earlier.provider.base_url != later.provider.base_url:
        yield RequestChange("base_url", earlier.provider.base_url, later.provider.base_url)
    changes = (_text_change(name, _text(earlier, name), _text(later, name)) for name in _TEXTS)
    texts = [change for change in changes if change]
    yield from texts
    if not texts:
        yield from _first_prompt(old, new, pairs)


def asks_alike(old: ComparedRun, new: ComparedRun, pair: ModelPairs) -> bool:
    """Return whether the jobs of two runs make the same request of the same row for a model."""
    earlier, later = (reader.job_of(run.layout.root) for run in (old, new))
    texts = all(_text(earlier, name) == _text(later, name) for name in _TEXTS)
    return texts and _model(earlier, pair.before_model) == _model(later, pair.model)


_TEXTS = ("system", "prompt", "messages", "answer schema")


def _model(job: CheckedJob, name: str) -> Mapping[str, Any]:
    """Return the id and the parameters of one of a job's models."""
    model = next((model for model in job.models if model.name == name), None)
    return {"id": name, **job.params} if model is None else {"id": model.id, **model.params}


def _value(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else _MISSING


def _text(job: CheckedJob, name: str) -> str | None:
    if name == "answer schema":
        return json.dumps(job.answer.schema, ensure_ascii=False, indent=1) if job.answer else None
    if name == "messages":
        messages = job.input.messages
        return None if messages is None else json.dumps(messages, ensure_ascii=False, indent=1)
    text: str | None = getattr(job.input, name)
    return text


def _text_change(what: str, before: str | None, after: str | None) -> RequestChange | None:
    """Return how a text differs. None if it does not."""
    if before == after:
        return None
    old, new = (list(itertools.islice(_short_lines(text or ""), _MAX_LINES)) for text in (before, after))
    changed = list(difflib.unified_diff(old, new, n=_CONTEXT, lineterm=""))[2:]  # without the names of files
    body = tuple(line for line in changed if not line.startswith("@@"))
    return RequestChange(what, _MISSING if before is None else "", _MISSING if after is None else "", body)


def _short_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text, long ones in sentences and parts of them, so that a difference is not far inside."""
    for line in text[:_MAX_TEXT_CHARS].splitlines():
        if len(line) <= _LINE_CHARS:
            yield line
            continue
        for sentence in _SENTENCE_END.split(line):
            yield from textwrap.wrap(sentence, _LINE_CHARS) or [""]


def _first_prompt(old: ComparedRun, new: ComparedRun, pairs: Sequence[ModelPairs]) -> Iterator[RequestChange]:
    """Yield how the prompt of the first pair with different requests has changed, if the inputs are still there."""
    for pair in pairs:
        for at in np.flatnonzero(pair.other_request)[:1]:
            sides = (old, pair.before_model, pair.before[at]), (new, pair.model, pair.after[at])
            known = _PROMPTS.union(*(_model(reader.job_of(run.layout.root), name) for run, name, _ in sides))
            prompts = [_prompt(*side, known) for side in sides]
            row = new.results.fields["row"][pair.after[at]]
            if all(prompts) and (change := _text_change(f"prompt of row {row}", *prompts)):
                yield change
                return


def _prompt(run: ComparedRun, model: str, at: np.int64, known: Collection[str]) -> str:
    """Return the prompt of a result as it was sent, and its parameters but the known ones.

    Empty if the input is gone or has changed.
    """
    fields = run.results.fields
    key = int(fields["row"][at]), model, int(fields["sample"][at])
    try:
        for request in sent_requests(run.layout.root, {key}):
            if hash(request.hash) == fields["request"][at]:
                body = json.loads(request.body)
                turns = [f"{turn.role}: {turn.text}" for turn in turns_of(body)]
                return "\n".join([*turns, *(f"{key}: {_value(body, key)}" for key in body if key not in known)])
    except BatchmixError:
        pass
    return ""
