"""Turns a row into requests: the body as it is sent, its hash, and an estimate of its tokens."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from batchmix.answers.asking import Asking, can_be_typed, tool_clash
from batchmix.errors import FailureAction
from batchmix.formats.display import clean
from batchmix.job import Model
from batchmix.load.prompts import PromptSource
from batchmix.load.template import BadRowError
from batchmix.load.token_estimate import prompt_tokens
from batchmix.records import BYTES_PER_TOKEN, Failure, RejectedRow, Request
from batchmix.responses.endpoints import CHAT, endpoint_of
from batchmix.responses.streaming import STREAMING, as_stream, streamed_choices

_CAP_NAMES = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_LONG_CHARS = 2000
"""The length of a message from which encoding it once takes less time than a copy of its body."""
_encoder = msgspec.json.Encoder()
_sorted_encoder = msgspec.json.Encoder(order="sorted")


class RequestBuilder:
    """Builds the requests to one model."""

    def __init__(
        self, prompts: PromptSource, model: Model, samples: int, root_path: str, asking: Asking | None
    ) -> None:
        """`asking` puts the schema of the answers into the requests. None if the job has none."""
        self._prompts = prompts
        self._request_for = prompts.request_for
        self._model = model
        self._samples = range(samples)
        self._root_path = root_path
        self._has_row_params = prompts.has_row_params
        self._cap = None if prompts.has_row_params else output_cap(model.params)
        self._streamed = 0 if prompts.has_row_params else streamed_choices(CHAT, model.params)
        self._asking = asking
        self._is_text = prompts.is_text and "messages" not in model.params
        self._may_have_odd = prompts.has_row_params or not prompts.is_text  # a job has no such numbers

    def requests(self, index: int, row: Mapping[str, Any], line: tuple[int, int] | None) -> list[Request | RejectedRow]:
        """Return a row's requests, one per sample. Empty if the row is for another model."""
        model = self._model
        try:
            request = self._request_for(row, model)
            if request is None:
                return []
            path, body = request
            if self._asking is not None:
                body = self._typed(self._asking, path, body)
            streamed = streamed_choices(path, body) if self._has_row_params else self._streamed
            by_default = bool(streamed) and body.get("stream") is None
            encodable = with_encoded_texts(body)
            sent = encode_body(as_stream(encodable) if streamed else encodable, may_have_odd=self._may_have_odd)
            hash_ = request_hash(self._root_path + path, encodable)
        except BadRowError as error:
            return self.refused(index, Failure(FailureAction.REJECT, error.type, str(error)))
        endpoint = endpoint_of(path)
        cap = output_cap(body) if self._has_row_params else self._cap
        if not endpoint.has_completion_tokens:
            cap = 0
        tokens = max(1, len(sent) // BYTES_PER_TOKEN) if self._is_text else prompt_tokens(body, len(sent))
        inputs = _inputs_of(body) if endpoint.counts_inputs else 0
        return [
            Request(index, model.name, sample, hash_, path, sent, tokens, cap, streamed, by_default, line, inputs)
            for sample in self._samples
        ]

    def _typed(self, asking: Asking, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if not can_be_typed(path):
            raise BadRowError(f"answers of {path} can't have a schema; take [answer] out of the job, or the row")
        if clash := tool_clash(body, asking.way):
            raise BadRowError(f"{clash[0]}: {clash[1]}")
        return asking.with_schema(body, path)

    def rejected(self, index: int, reason: str) -> list[Request | RejectedRow]:
        """Return a row that can't be sent as a rejected row for each sample."""
        return self.refused(index, Failure(FailureAction.REJECT, BadRowError.type, reason))

    def refused(self, index: int, failure: Failure) -> list[Request | RejectedRow]:
        """Return a row that needs no request, and why, as a rejected row for each sample."""
        return [RejectedRow(index, self._model.name, sample, failure) for sample in self._samples]


def with_encoded_texts(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body whose long messages are JSON already, since a body is encoded twice: as it is sent, and sorted."""
    messages = body.get("messages")
    if type(messages) is not list:
        return body
    encoded = None
    for number, message in enumerate(messages):
        text = message.get("content") if type(message) is dict else None
        if type(text) is str and len(text) > _LONG_CHARS:
            try:
                content = msgspec.Raw(_encoder.encode(text))
            except ValueError:  # lone surrogates
                return body
            encoded = messages.copy() if encoded is None else encoded
            encoded[number] = {**message, "content": content}
    return body if encoded is None else {**body, "messages": encoded}


def encode_body(body: dict[str, Any], *, may_have_odd: bool = True) -> bytes:
    """Return a body as JSON, with its keys in their order. Raises `BadRowError` if a value can't be written as JSON.

    `may_have_odd` says whether NaN or infinity may be in the body.
    """
    try:
        encoded = _encoder.encode(body)
    except (ValueError, RecursionError, TypeError):
        return _plain_json(body)
    # msgspec silently writes NaN as null.
    # In a long text without null, `rfind` takes a quarter of the time of `find` or `in`.
    is_odd = may_have_odd and encoded.rfind(b"null") >= 0 and _has_odd_float(body)
    return _plain_json(body) if is_odd else encoded


def _plain_json(body: dict[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":"), default=msgspec.json.decode).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise BadRowError(f"the request can't be written as JSON: {clean(str(error))}") from None


def _has_odd_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_odd_float, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_odd_float, value))
    return isinstance(value, float) and not math.isfinite(value)


def request_hash(path: str, body: dict[str, Any]) -> str:
    """Return the hash of the URL path and the body, with the keys sorted and without streaming keys.

    The host and the API key are not included, so the same request to another server has the same hash.
    """
    if STREAMING[0] in body or STREAMING[1] in body:
        body = {key: value for key, value in body.items() if key not in STREAMING}
    try:
        canonical = _sorted_encoder.encode(body)
    except (ValueError, RecursionError, TypeError):
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), default=msgspec.json.decode).encode()
    digest = hashlib.sha256(path.encode() + b"\n")
    digest.update(canonical)
    return digest.hexdigest()[:32]


def output_cap(body: Mapping[str, Any]) -> int | None:
    """Return the cap on the output tokens of a request, over all choices. None if the body sets no cap."""
    cap = next((body[name] for name in _CAP_NAMES if body.get(name) is not None), None)
    choices = body.get("n")
    choices = 1 if choices is None else choices
    return cap * max(1, choices) if type(cap) is int and type(choices) is int and cap > 0 else None


def _inputs_of(body: Mapping[str, Any]) -> int:
    """Return how many embeddings a body requests. 0 if it has no input."""
    given = body.get("input")
    if isinstance(given, list) and not all(type(item) is int for item in given):  # integers are token ids of one text
        return len(given)
    return 1 if given else 0
