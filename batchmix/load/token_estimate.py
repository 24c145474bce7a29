"""Estimates the tokens of a request's prompt: text by its bytes; pictures, sound and files by their size.

Pictures follow OpenAI's published rule (platform.openai.com/docs/guides/images-vision, "Calculating costs"): 85 tokens,
and 170 for each tile of 512 pixels of the picture, scaled into 2048 by 2048 and then to 768 on its shorter side. Sound
is ten tokens a second there; a page of a PDF is some 2,000 with its picture (docs.anthropic.com, "PDF support"). Other
models count differently: the usage of each response corrects later estimates.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from batchmix.records import BYTES_PER_TOKEN

_BASE, _TILE = 85, 170
_UNSEEN = (1024, 1024)
"""The assumed width and height of a picture behind a URL, or in a format that is not read here."""
_HEAD = 1 << 18
"""The number of bytes of a picture that are searched for its size, since in a JPEG other data may come first."""
_AUDIO_PER_S, _AUDIO_BYTES_PER_S = 10, 16_000
"""The tokens per second of sound, and the bytes per second of MP3 at 128 kbit/s, assumed for all formats but WAV."""
_PAGE, _PAGE_BYTES = 2000, 50_000
"""The tokens per page of a document, and the bytes per page, which are used if the pages can't be counted."""
_FILM_BYTES_PER_TOKEN = 1000
_PAGES = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_DATA_URL = re.compile(r"data:([^;,]{0,100})[^,]{0,200},", re.IGNORECASE)
_HOLDERS = (
    "image", "image_url", "input_audio", "audio_url", "video_url", "file", "source", "inline_data", "inlineData",
)  # fmt: skip
"""The keys of a part whose value may be an object with the part's data."""
_MEDIA_KEYS = frozenset({"image", "image_url", "audio_url", "video_url", "inline_data", "inlineData"})
"""Keys that show that a part is not text, even if it has no type."""
_KEYS = ("url", "data", "file_data", "image", "image_url", "audio_url", "video_url", "file_url", "text")
_NAMES = ("media_type", "mime_type", "mimeType", "format", "filename")
_MEDIA_TYPES = ("image", "audio", "video", "file", "document")
_encoder = msgspec.json.Encoder()


def prompt_tokens(body: dict[str, Any], size: int) -> int:
    """Estimate the tokens of the prompt in a body, which is `size` bytes long as it is sent."""
    prompt = body.get("messages") or body.get("input") or body.get("prompt")
    if type(prompt) is list:
        if type(prompt[0]) is int or (type(prompt[0]) is list and prompt[0] and type(prompt[0][0]) is int):
            return _ids(prompt) + max(0, size - len(_encoder.encode(prompt))) // BYTES_PER_TOKEN
        for message in prompt:
            if type(message) is dict and (type(message.get("content")) is list or "role" not in message):
                return _with_parts(prompt, size)
    return max(1, size // BYTES_PER_TOKEN)


def _ids(prompt: list[Any]) -> int:
    """Return the number of token ids in a prompt, which is a list of them or a list of such lists."""
    return sum(len(each) if type(each) is list else 1 for each in prompt)


def _with_parts(prompt: list[Any], size: int) -> int:
    tokens = 0
    for part in _parts(prompt):
        objects = [part, *(inner for name in _HOLDERS if type(inner := part.get(name)) is dict)]
        texts = [text for inner in objects for name in _KEYS if type(text := inner.get(name)) is str]
        data = max(texts, key=len, default="")
        size -= len(data.encode("utf-8", "replace"))
        match = _DATA_URL.match(data)
        elsewhere = not match and ("://" in data[:20] or len(data) < 100)
        named = " ".join(str(inner.get(name, "")) for inner in objects for name in _NAMES)
        media = " ".join([(match[1] if match else named).lower(), str(part.get("type")), *(_MEDIA_KEYS & part.keys())])
        data = "" if elsewhere else data[match.end() :] if match else data
        tokens += _media_tokens(media, data, low=any(inner.get("detail") == "low" for inner in objects))
    return max(1, max(0, size) // BYTES_PER_TOKEN + tokens)


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the parts of messages and of tool results that are pictures, sound, video or files."""
    if type(value) is list:
        for inner in value:
            yield from _parts(inner)
    elif type(value) is dict:
        media = value.get("type")
        is_media = (type(media) is str and any(name in media for name in _MEDIA_TYPES)) or _MEDIA_KEYS & value.keys()
        if is_media and "content" not in value:
            yield value
        else:
            for name in ("content", "output"):
                yield from _parts(value.get(name))


def _media_tokens(media: str, data: str, *, low: bool) -> int:
    """Estimate the tokens of a part. `data` is base64 or text, and empty if the part is only a URL or an id."""
    size = len(data) * 3 // 4
    if "image" in media:
        return _BASE if low else _picture(*(_pixels(_decoded(data[: _HEAD * 4 // 3])) or _UNSEEN))
    if "audio" in media:
        return math.ceil(_seconds(_decoded(data[:64]), size) * _AUDIO_PER_S)
    if "video" in media:
        return size // _FILM_BYTES_PER_TOKEN
    if "text/" in media or "plain" in media:
        return size // BYTES_PER_TOKEN
    pages = len(_PAGES.findall(_decoded(data))) if "pdf" in media or data.startswith("JVBERi") else 0
    return _PAGE * (pages or max(1, math.ceil(size / _PAGE_BYTES)))


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data[: len(data) // 4 * 4])
    except (binascii.Error, ValueError):
        return b""


def _picture(width: int, height: int) -> int:
    shrunk = min(1.0, 2048 / max(width, height))
    shrunk *= min(1.0, 768 / (min(width, height) * shrunk))
    tiles = math.ceil(width * shrunk / 512) * math.ceil(height * shrunk / 512)
    return _BASE + _TILE * max(1, tiles)


def _pixels(head: bytes) -> tuple[int, int] | None:
    """Return the width and height from the first bytes of a PNG, JPEG, GIF or WebP file. None if they are not found."""
    size = (0, 0)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        size = _number(head[16:20]), _number(head[20:24])
    elif head.startswith((b"GIF87a", b"GIF89a")):
        size = _number(head[7:5:-1]), _number(head[9:7:-1])
    elif head.startswith(b"\xff\xd8"):
        size = _jpeg(head)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        size = _webp(head)
    return size if all(size) else None


def _jpeg(head: bytes) -> tuple[int, int]:
    """Return width and height from the frame header (ITU T.81, B.2.2), after any other segments."""
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _number(head[at + 7 : at + 9]), _number(head[at + 5 : at + 7])
        at += 1 if marker == 0xFF else 2 + max(2, _number(head[at + 2 : at + 4]))
    return 0, 0


def _webp(head: bytes) -> tuple[int, int]:
    """Return width and height from the first chunk (RFC 9649): lossy, lossless or extended."""
    if head[12:16] == b"VP8X":
        return 1 + _number(head[26:23:-1]), 1 + _number(head[29:26:-1])
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return _number(head[27:25:-1]) & 0x3FFF, _number(head[29:27:-1]) & 0x3FFF


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _seconds(head: bytes, size: int) -> float:
    """Return the length of a sound in seconds. A WAV file's header has its bytes per second."""
    rate = int.from_bytes(head[28:32], "little") if head[:4] == b"RIFF" and head[8:12] == b"WAVE" else 0
    return size / (rate or _AUDIO_BYTES_PER_S)
