"""The same request, with the answer to come as one body."""

from __future__ import annotations

import json

import msgspec

from batchmix.loose_json import read_json
from batchmix.records import Request

_STREAMING = ("stream", "stream_options")


def unstreamed(request: Request) -> Request:
    """Return a request that asks the same without a stream; its hash knows nothing of streams."""
    body = read_json(request.body)
    plain = {key: value for key, value in body.items() if key not in _STREAMING}
    try:
        encoded = msgspec.json.encode(plain)
    except (ValueError, OverflowError):  # lone surrogates, whole numbers of any size
        encoded = json.dumps(plain, separators=(",", ":")).encode()
    return msgspec.structs.replace(request, body=encoded, streamed_choices=0, streams_unasked=False)
