"""What a job's schema makes of its answers: whether they fit, what follows on one that does not, and their columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from batchmix.answers.asking import answer_text, with_larger_cap, with_repair
from batchmix.answers.check import AnswerCheck, Problem
from batchmix.answers.column import AnswerColumn, field_paths, flat_arrays, flattened
from batchmix.errors import FailureAction
from batchmix.formats.lenient_json import json_bytes, read_json
from batchmix.records import BYTES_PER_TOKEN, Completion, Failure, InvalidAnswer, Request, Status

INVALID = "schema"
"""The `error_type` of rows whose answer does not fit the schema."""
_CUT_OFF = "the answer was cut off by its limit of tokens"


class TypedAnswers:
    """Checks the answers of a job against its schema, and decides what is sent after an invalid one."""

    def __init__(
        self, schema: dict[str, Any], *, repair: int = 1, keep_invalid: bool = False, flatten: bool = False
    ) -> None:
        """A row is asked up to `repair` times to repair its answer.

        With `keep_invalid`, a row whose answer stays invalid counts as answered. With `flatten`, each field of an
        answer has a column of its own.
        """
        self._check = AnswerCheck(schema)
        self._column = AnswerColumn(schema)
        self._repair = repair
        self._keep_invalid = keep_invalid
        self._flatten = flatten

    @property
    def fields(self) -> list[pa.Field]:
        """The columns of the answers. They follow from the schema alone."""
        if self._flatten:
            return [pa.field(name, type_) for name, type_ in flattened(self._column)]
        return [pa.field("answer", self._column.type)]

    @property
    def paths(self) -> dict[str, tuple[str, ...]]:
        """The keys that lead to each field of an answer, by their names with dots between."""
        return field_paths(self._column.type)

    def arrays(self, answers: Sequence[Any]) -> list[pa.Array]:
        """Return the columns of some answers, given as JSON values. None stands for a row without an answer."""
        whole = self._column.array(answers)
        return flat_arrays(whole) if self._flatten else [whole]

    def value(self, response: str | None, tool_calls: str | None) -> Any:
        """Return the JSON value of an answer, given by two of its columns. None if it does not fit the schema."""
        checked = self._check.check(answer_text(response, tool_calls))
        return None if isinstance(checked, Problem) else checked.value

    def values(
        self, statuses: Iterable[str], responses: Iterable[str | None], tool_calls: Iterable[str | None]
    ) -> list[Any]:
        """Return the JSON values of results, given by three of their columns. None where there is no valid answer."""
        rows = zip(statuses, responses, tool_calls, strict=True)
        return [self.value(response, calls) if status == Status.OK else None for status, response, calls in rows]

    def fits(self, response: str | None, tool_calls: str | None) -> bool:
        """Return whether an answer, given by two of its columns, fits the schema."""
        return not isinstance(self._check.check(answer_text(response, tool_calls)), Problem)

    def checked(self, answer: Completion) -> Completion | InvalidAnswer:
        """Return an answer with its JSON value, or say why it does not fit the schema."""
        found = self._check.check(answer_text(answer.response, answer.tool_calls))
        is_cut_off = answer.finish_reason == "length"
        # A cut-off answer may end before the tag that would show that the JSON in it was only a thought.
        if not isinstance(found, Problem) and not (found.healed and is_cut_off):
            return msgspec.structs.replace(answer, answer=found.value, healed=found.healed)
        is_refused = bool(answer.refusal) or answer.finish_reason == "content_filter"
        if is_refused:
            sentence = f"the model refused: {answer.refusal or 'content_filter'}"
        else:
            sentence = (
                found.sentence if isinstance(found, Problem) and not is_cut_off else f"{_CUT_OFF}; raise max_tokens"
            )
        path = found.path if isinstance(found, Problem) and not (is_refused or is_cut_off) else ""
        action = FailureAction.KEEP if self._keep_invalid else FailureAction.RETRY
        message = f"{path}: {sentence}" if path else sentence
        # A model that gives no valid answer at all may show a mistake in the job. A refusal is about the row.
        failure = Failure(action, INVALID, message, path, attempts=None if is_refused else 1)
        return InvalidAnswer(answer, failure, can_repair=not is_refused)

    def follow_up(self, request: Request, invalid: InvalidAnswer, cut_offs: Sequence[bool]) -> Request | None:
        """Return the request that follows on an invalid answer to `request`. None if the row is given up.

        An answer that its limit of tokens cut off is requested once more with a larger limit; other answers are
        repaired. `cut_offs` says for each invalid answer of the row, up to this one, whether it was cut off.
        """
        if not self._repair or not invalid.can_repair:
            return None
        body = read_json(request.body)
        larger = with_larger_cap(body)
        was_raised = larger is not None and any(cut_offs[:-1])
        if cut_offs[-1] and larger is not None and not was_raised:
            cap = request.max_tokens and 2 * request.max_tokens
            return msgspec.structs.replace(request, body=json_bytes(larger), max_tokens=cap)
        if len(cut_offs) - was_raised > self._repair:
            return None
        answer, failure = invalid.completion, invalid.failure
        sentence = f"at {failure.message}" if failure.code else failure.message
        if invalid.is_cut_off:
            sentence = f"{_CUT_OFF}, so it must be shorter"
        encoded = json_bytes(with_repair(body, request.path, answer.response, answer.tool_calls, sentence))
        more = max(0, len(encoded) - len(request.body)) // BYTES_PER_TOKEN
        return msgspec.structs.replace(request, body=encoded, prompt_tokens=request.prompt_tokens + more)


def typed_answers(settings: Mapping[str, Any] | None) -> TypedAnswers | None:
    """Return what the table `[answer]` of a checked job says, given as JSON values. None without such a table."""
    if settings is None:
        return None
    return TypedAnswers(
        settings["schema"],
        repair=settings["repair"],
        keep_invalid=settings["on_invalid"] == "keep",
        flatten=settings["flatten"],
    )
