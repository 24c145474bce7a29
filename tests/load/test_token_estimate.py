"""Content other than text is counted by its kind, and the estimate for text is unchanged."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.engine.plan import plan_run
from batchmix.engine.run import Options
from batchmix.errors import BudgetSpent
from batchmix.job import read_job
from batchmix.load.requests import encode_body
from batchmix.load.token_estimate import prompt_tokens
from tests.conftest import Bench
from tests.gateway import Gateway


def png(width: int, height: int, size: int = 200_000) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(size)


def jpeg(width: int, height: int) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", 40_000) + bytes(39_998)
    return b"\xff\xd8" + exif + b"\xff\xc0" + struct.pack(">HBHH", 17, 8, height, width) + bytes(100_000)


GIF = b"GIF89a" + struct.pack("<HH", 1024, 1024) + bytes(9_000)
LOSSY = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 1024, 1024) + bytes(9_000)
LOSSLESS = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 1023 | 1023 << 14) + bytes(9_000)
EXTENDED = b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0" + b"\xff\x03\0" * 2 + bytes(9_000)
WAV = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0" + struct.pack("<II", 16_000, 32_000) + bytes(320_000 - 32)
PDF = b"%PDF-1.7 " + b"<< /Type /Page /Parent 1 0 R >> " * 7 + b"/Type /Pages " + bytes(90_000)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def picture(data: bytes, kind: str = "png", **more: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{b64(data)}", **more}}


PARTS: dict[str, tuple[Any, int]] = {
    "a png": (picture(png(1024, 1024)), 765),
    "a large one": (picture(png(2048, 4096)), 1105),
    "a small one": (picture(png(100, 100)), 255),
    "at low detail": (picture(png(2048, 4096), detail="low"), 85),
    "a jpeg": (picture(jpeg(1024, 1024), "jpeg"), 765),
    "a gif": (picture(GIF, "gif"), 765),
    "webp, lossy": (picture(LOSSY, "webp"), 765),
    "webp, lossless": (picture(LOSSLESS, "webp"), 765),
    "webp, extended": (picture(EXTENDED, "webp"), 765),
    "unknown": (picture(bytes(50_000), "heic"), 765),
    "broken": ({"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%" + "=" * 5000}}, 765),
    "elsewhere": ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, 765),
    "elsewhere, low": ({"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}}, 85),
    "of a response": ({"type": "input_image", "image_url": f"data:image/png;base64,{b64(png(1024, 1024))}"}, 765),
    "of a message": ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64(png(1024, 1024))}}, 765),
    "ten seconds": ({"type": "input_audio", "input_audio": {"data": b64(WAV), "format": "wav"}}, 100),
    "ten seconds of mp3": ({"type": "input_audio", "input_audio": {"data": b64(b"\xff\xfb" + bytes(160_000)), "format": "mp3"}}, 101),
    "seven pages": ({"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{b64(PDF)}"}}, 14_000),
    "pages of a response": ({"type": "input_file", "filename": "a.pdf", "file_data": b64(PDF)}, 14_000),
    "a document": ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": b64(PDF)}}, 14_000),
    "a file by its id": ({"type": "file", "file": {"file_id": "file-abc"}}, 2000),
    "pages that can't be counted": ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{b64(bytes(120_000))}"}}, 6000),
    "text": ({"type": "text", "text": "four" * 1000}, 1000),
    "Gemini's": ({"inline_data": {"mime_type": "image/png", "data": b64(png(1024, 1024))}}, 765),
    "in camels": ({"inlineData": {"mimeType": "image/png", "data": b64(png(1024, 1024))}}, 765),
    "of an embedding": ({"image": f"data:image/png;base64,{b64(png(1024, 1024))}"}, 765),
    "in what a call gave": ({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": f"data:image/png;base64,{b64(png(1024, 1024))}"}]}, 765),
    "in a screenshot": ({"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": f"data:image/png;base64,{b64(png(1024, 1024))}"}}, 765),
    "in a tool's result": ({"type": "tool_result", "content": [picture(png(1024, 1024))]}, 765),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_each_kind_of_content_part_is_counted_by_its_own_rule(name: str) -> None:
    part, expected = PARTS[name]
    for content in ([part], [{"type": "text", "text": "What is it?"}, part]):
        for key in ("messages", "input"):
            body = {"model": "m", key: [{"role": "user", "content": content}]}
            assert expected <= prompt_tokens(body, len(encode_body(body))) <= expected + 70
    body = {"model": "m", "input": [part]}
    assert expected <= prompt_tokens(body, len(encode_body(body))) <= expected + 70


@pytest.mark.parametrize("ids", [list(range(1000, 1500)), [list(range(1000, 1250))] * 2])
def test_token_ids_count_as_tokens(ids: list[Any]) -> None:
    body = {"model": "m", "input": ids}
    assert 500 <= prompt_tokens(body, len(encode_body(body))) <= 510


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF1234WEBP"])
)
def test_no_beginning_of_an_image_breaks_the_estimate(data: bytes, magic: bytes) -> None:
    body = {"messages": [{"content": [picture(magic + data + bytes(200))]}]}
    assert 85 < prompt_tokens(body, len(encode_body(body))) < 10_000


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(["type", "content", "image_url", "url", "image", "source", "data"]), each, max_size=4), max_leaves=20))  # fmt: skip
def test_any_content_of_a_row_is_counted_without_an_error(content: Any) -> None:
    for body in ({"messages": content}, {"messages": [{"content": [content]}]}, {"input": [content]}):
        assert prompt_tokens(body, 1000) >= 1


def test_six_photos_fit_under_a_small_cap(bench: Bench, gateway: Gateway) -> None:
    bench.settings |= {
        "provider": {"base_url": f"{gateway.url}/v1", "api_key_env": ""},
        "input": {"path": str(bench.source)},
        "prices": {"m": {"input": 1, "output": 2}},
        "params": {"max_tokens": 50},
        "budget": {"max_usd": 0.01},
        "limits": {"concurrency": 1},
    }
    photo = jpeg(1024, 1024)
    rows = [{"messages": [{"role": "user", "content": [picture(photo, "jpeg")]}]} for _ in range(6)]
    bench.source.write_text("\n".join(map(json.dumps, rows)))
    gateway.usage = {"prompt_tokens": 800, "completion_tokens": 50, "total_tokens": 850}
    found = plan_run(read_job(None, bench.settings, {}), Options())
    assert 6 * 765 < found.prompt_tokens < 4900
    assert bench.run().totals.ok == 6
    # What the answers tell corrects the estimate, for the cap too: none more leaves than has room.
    gateway.usage = {"prompt_tokens": 8000, "completion_tokens": 50, "total_tokens": 8050}
    bench.settings |= {"output": {"path": str(bench.root / "dear")}, "budget": {"max_usd": 0.03}}
    before = len(gateway.posts)
    with pytest.raises(BudgetSpent):
        bench.run()
    assert (len(gateway.posts) - before) * 0.0081 <= 0.03
