"""Row → Request: the body that goes over the wire, and the hash that an answer is filed under."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from batchmix.errors import JobError, Next
from batchmix.job import Job, Model
from batchmix.load.template import BadRowError, Template
from batchmix.records import Failure, Request, Unsendable

CHAT = "/chat/completions"
BATCH_KEYS = frozenset({"custom_id", "method", "url", "body"})
_STREAMING = ("stream", "stream_options")
_encoder = msgspec.json.Encoder()
_sorted_encoder = msgspec.json.Encoder(order="sorted")


class Asking(Protocol):
    """How rows become requests, in one of three modes."""

    used: frozenset[str]
    """Columns that every row must have."""
    reads: frozenset[str] | None
    """All columns that are looked at; None: any."""

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return why a row can't be asked, as the scan sees it; None where nothing is wrong so far."""

    def asked(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return URL path and body, or None where the row is not for this model. Raises `BadRowError`."""


class TemplateAsking:
    """The job's template makes the messages."""

    def __init__(self, job: Job) -> None:
        self._template = Template(job.input)
        self.used = self.reads = self._template.used

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return which column is missing, unless the template can do without."""
        if self.used <= row.keys():
            return None
        try:
            self._template.render(row)
        except BadRowError:
            missing = ascii(min(self.used - row.keys()))
            return f"has no column {missing}; it has {column_list(row)}"
        return None

    def asked(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the body with the rendered messages."""
        return CHAT, {"model": model.id, "messages": self._template.render(row), **model.params}


class PlainAsking:
    """Rows bring `messages`, or a `prompt`."""

    def __init__(self, job: Job) -> None:
        self.used: frozenset[str] = frozenset()
        self._system = Template(job.input) if job.input.system is not None else None
        self.reads = frozenset({"messages", "prompt"}) | (self._system.used if self._system else frozenset())

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return what is wrong with `messages` or `prompt`."""
        messages = row.get("messages")
        if messages is not None:
            if self._system is not None:
                return "brings its own messages; input.system goes with a prompt column only"
            return None if _are_messages(messages) else "messages must be a list of objects, each with a text as role"
        prompt = row.get("prompt")
        if prompt is None and "prompt" not in row and "messages" not in row:
            return f"has neither messages nor prompt; it has {column_list(row)}. Set input.prompt to make one of them"
        if prompt is not None and not isinstance(prompt, str):
            return "prompt must be text"
        return None

    def asked(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the body with the row's messages."""
        messages = row.get("messages")
        if messages is None:
            prompt = row.get("prompt")
            if prompt is None:
                raise BadRowError(f"column {'prompt' if 'prompt' in row else 'messages'!r} is null")
            messages = [*(self._system.render(row) if self._system else ()), {"role": "user", "content": prompt}]
        return CHAT, {"model": model.id, "messages": messages, **model.params}


class BatchAsking:
    """Rows are lines of an OpenAI Batch file."""

    def __init__(self, job: Job) -> None:
        if job.params or any(model.params for model in job.models):
            raise JobError("params: the lines of an OpenAI Batch file bring their own; take them out of the job")
        self.used = frozenset({"body"})
        self.reads = BATCH_KEYS
        self._own_model = not job.models

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return what is wrong with the line."""
        body = row.get("body")
        if not isinstance(body, dict):
            return "is no Batch line: body must be an object"
        if row.get("method") not in (None, "POST"):
            return "is no Batch line that can be sent: method must be POST"
        if _batch_path(row.get("url")) is None:
            return "is no Batch line that can be sent: url must be a path such as /v1/chat/completions"
        if self._own_model and not (isinstance(body.get("model"), str) and body["model"].strip()):
            return "names no model in its body; set model in the job"
        return None

    def asked(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the line's body as it is; a model of the job replaces the line's."""
        problem = self.problem(row)
        if problem:
            raise BadRowError(problem)
        body = row["body"]
        path = _batch_path(row.get("url")) or CHAT
        if self._own_model:
            return (path, body) if body["model"] == model.name else None
        return path, {**body, "model": model.id}


def _batch_path(url: Any) -> str | None:
    if url is None:
        return CHAT
    path = urlsplit(url).path if isinstance(url, str) else ""
    plain = path.startswith("/v1/") and ".." not in path and path.isascii() and path.isprintable() and "?" not in path
    return path[3:] if plain else None


def _are_messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in value)
    )


def column_list(row: Mapping[str, Any]) -> str:
    """Return a row's columns for a message."""
    names = [ascii(name) for name in list(row)[:30]]
    return ", ".join(names) or "no columns"


class Maker:
    """Makes the requests of one model."""

    def __init__(self, asking: Asking, model: Model, samples: int, root_path: str) -> None:
        self._asking = asking
        self._model = model
        self._samples = range(samples)
        self._root_path = root_path

    def requests(self, index: int, row: Mapping[str, Any]) -> list[Request | Unsendable]:
        """Return a row's requests, one for each sample; none where the row is not for this model."""
        try:
            asked = self._asking.asked(row, self._model)
            if asked is None:
                return []
            path, body = asked
            sent = encode_body(body)
            hash_ = request_hash(self._root_path + path, body)
        except BadRowError as error:
            return self.unsendable(index, str(error))
        name = self._model.name
        prompt_tokens = max(1, len(sent) // 4)
        most = _most_tokens(body)
        return [Request(index, name, sample, hash_, path, sent, prompt_tokens, most) for sample in self._samples]

    def unsendable(self, index: int, reason: str) -> list[Request | Unsendable]:
        """Return the results of a row that can't be asked."""
        failure = Failure(Next.REJECT, "bad_row", reason)
        return [Unsendable(index, self._model.name, sample, failure) for sample in self._samples]


def encode_body(body: dict[str, Any]) -> bytes:
    """Return a body as JSON with its keys in their order. Raises `BadRowError` where JSON has no word for a value."""
    try:
        encoded = _encoder.encode(body)
    except (UnicodeEncodeError, RecursionError, TypeError):
        return _plain_json(body)
    # msgspec writes NaN as null without a word.
    return encoded if b"null" not in encoded else _plain_json(body) if _has_odd_float(body) else encoded


def _plain_json(body: dict[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise BadRowError(f"the request can't be written as JSON: {error}") from None


def _has_odd_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_odd_float, value.values()))
    if isinstance(value, list):
        return any(map(_has_odd_float, value))
    return isinstance(value, float) and not math.isfinite(value)


def request_hash(path: str, body: dict[str, Any]) -> str:
    """Return the hash of URL path and canonical body: keys sorted, without the streaming keys; host and key are not in it."""
    if _STREAMING[0] in body or _STREAMING[1] in body:
        body = {key: value for key, value in body.items() if key not in _STREAMING}
    try:
        canonical = _sorted_encoder.encode(body)
    except (UnicodeEncodeError, RecursionError, TypeError):
        canonical = json.dumps(body, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()
    return hashlib.sha256(b"%b\n%b" % (path.encode(), canonical)).hexdigest()[:32]


def _most_tokens(body: Mapping[str, Any]) -> int | None:
    most = body.get("max_completion_tokens", body.get("max_tokens", body.get("max_output_tokens")))
    choices = body.get("n", 1)
    return most * max(1, choices) if type(most) is int and type(choices) is int and most > 0 else None
