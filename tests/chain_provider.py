"""A provider that gives each row a chain of answers, in the form that its requests ask for, and keeps its own account."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import re
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tests.wire import reply

PRICE = {"input": 1.0, "output": 2.0}
"""USD per million tokens, for a job that is compared with the provider's account."""
HANG, RESET = b"hang", b"reset"
"""No reply until the client gives up, and a connection that is reset."""
_PIECE = 7
"""A streamed text comes in pieces of so many characters."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """An answer in a row's chain."""

    text: str | None
    finish: str = "stop"
    beside: tuple[tuple[str, str], ...] = ()
    """Other fields of the message: `refusal`, `reasoning_content`."""


@dataclasses.dataclass(frozen=True)
class Received:
    """A request, and the usage of its answer. Without an answer, both counts are 0."""

    row: int
    place: int
    """The place of its answer in the row's chain."""
    path: str
    body: dict[str, Any]
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def usd(self) -> float:
        """The cost of the answer."""
        return (self.prompt_tokens * PRICE["input"] + self.completion_tokens * PRICE["output"]) / 1e6


class ChainProvider(socketserver.ThreadingTCPServer):
    """Answers by the place of a request in its row's chain: one for each repair, and one for an even limit of tokens.

    So an odd limit that is doubled counts as one. The last answer of a chain repeats.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, chain_of: Callable[[int], tuple[Turn, ...]]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.chain_of = chain_of
        self.faults: dict[tuple[int, int], list[bytes]] = {}
        """What the requests for a row and a place in its chain get before the answer."""
        self.on_request: Callable[[int, int], object] = lambda row, place: None
        """Called with the row and the place of each request, before the reply."""
        self.answered: list[Received] = []
        self.failed: list[Received] = []
        self.errors: list[BaseException] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return "http://127.0.0.1:{1}/v1".format(*self.server_address)

    @property
    def usd(self) -> float:
        """The cost of all answers."""
        return sum(received.usd for received in self.answered)

    @property
    def tokens(self) -> int:
        """The tokens of all answers and their prompts."""
        return sum(received.prompt_tokens + received.completion_tokens for received in self.answered)

    def places(self) -> dict[int, list[int]]:
        """Return the places of the answers that each row got."""
        places: dict[int, list[int]] = {}
        for received in sorted(self.answered, key=lambda received: (received.row, received.place)):
            places.setdefault(received.row, []).append(received.place)
        return places

    def asked_again(self, samples: int = 1) -> list[int]:
        """Return the rows with a request that was answered more often than there are samples."""
        counts = collections.Counter((a.row, a.path, json.dumps(a.body, sort_keys=True)) for a in self.answered)
        return [row for (row, _, _), number in counts.items() if number > samples]

    def replied(self, path: str, raw: bytes) -> bytes:
        """Return the reply to a request, or `HANG` or `RESET`."""
        body = json.loads(raw)
        row = int(re.findall(rb"row (\d+)", raw)[0])
        place = _place(body)
        self.on_request(row, place)
        with self._lock:
            if faults := self.faults.get((row, place)):
                self.failed.append(Received(row, place, path, body))
                return faults.pop(0)
            chain = self.chain_of(row)
            turn = chain[min(place, len(chain) - 1)]
            self.answered.append(Received(row, place, path, body, 10 + len(raw), 5 + len(turn.text or "")))
            return _reply(turn, self.answered[-1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep an error that is a mistake in the test. Clients may go at any time."""
        error = sys.exc_info()[1]
        self.errors += [error] if error and not isinstance(error, OSError) else []


@contextlib.contextmanager
def chain_provider(chain_of: Callable[[int], tuple[Turn, ...]]) -> Iterator[ChainProvider]:
    """Run a provider in a thread."""
    with ChainProvider(chain_of) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
        assert not server.errors


def _place(body: dict[str, Any]) -> int:
    turns = body.get("messages") or body["input"]
    asked = [str(turn.get("content")) for turn in turns] if isinstance(turns, list) else []
    repairs = sum(text.startswith("Your answer does not fit") for text in asked)
    cap = next((body[name] for name in ("max_tokens", "max_completion_tokens", "max_output_tokens") if name in body), 1)
    return repairs + (cap % 2 == 0)


def _reply(turn: Turn, received: Received) -> bytes:
    body, prompt, completion = received.body, received.prompt_tokens, received.completion_tokens
    beside = dict(turn.beside)
    if received.path.endswith("/responses"):
        usage = {"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion}
        return reply(200, {"id": "x", "model": body["model"], **_response(turn, beside, body), "usage": usage})
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    message = {"role": "assistant", "content": turn.text, **beside}
    if turn.text is not None and "tool_choice" in body:
        call = {"name": body["tool_choice"]["function"]["name"], "arguments": turn.text}
        message |= {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": call}]}
    choices = [{"index": n, "message": message, "finish_reason": turn.finish} for n in range(body.get("n", 1))]
    whole = {"id": "x", "model": body["model"], "choices": choices, "usage": usage}
    return _streamed(whole) if body.get("stream") else reply(200, whole)


def _response(turn: Turn, beside: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
    output: list[dict[str, Any]] = []
    if reasoning := beside.get("reasoning_content"):
        output.append({"type": "reasoning", "summary": [{"type": "summary_text", "text": reasoning}]})
    if refusal := beside.get("refusal"):
        output.append({"type": "message", "content": [{"type": "refusal", "refusal": refusal}]})
    if turn.text is not None and "tool_choice" in body:
        called = {"name": body["tool_choice"]["name"], "arguments": turn.text}
        output.append({"type": "function_call", "id": "f1", "call_id": "c1", **called})
    elif turn.text is not None:
        output.append({"type": "message", "content": [{"type": "output_text", "text": turn.text}]})
    reason = {"length": "max_output_tokens", "stop": None}.get(turn.finish, turn.finish)
    details = {"reason": reason} if reason else None
    return {"status": "incomplete" if reason else "completed", "incomplete_details": details, "output": output}


def _streamed(whole: dict[str, Any]) -> bytes:
    deltas: list[list[dict[str, Any]]] = []
    for choice in whole["choices"]:
        at, message = choice["index"], choice["message"]
        text = message["content"] or ""
        pieces = [{"content": text[start : start + _PIECE]} for start in range(0, len(text), _PIECE)]
        pieces += [{name: value} for name, value in message.items() if name in {"refusal", "reasoning_content"}]
        pieces += [{"tool_calls": [{"index": 0, **call}]} for call in message.get("tool_calls", ())]
        deltas += [[{"index": at, "delta": piece}] for piece in pieces]
        deltas.append([{"index": at, "delta": {}, "finish_reason": choice["finish_reason"]}])
    common = {"id": "x", "model": whole["model"]}
    events = [*({"choices": delta} for delta in deltas), {"choices": [], "usage": whole["usage"]}]
    lines = [f"data: {json.dumps(common | event)}\n\n" for event in events]
    return reply(200, "".join([*lines, "data: [DONE]\n\n"]).encode(), kind="text/event-stream")


class _Connection(socketserver.StreamRequestHandler):
    server: ChainProvider

    def handle(self) -> None:
        while (start := self.rfile.readline()) not in {b"\r\n", b""}:
            head = b""
            while (line := self.rfile.readline()) not in {b"\r\n", b""}:
                head += line.lower()
            length = re.search(rb"content-length: (\d+)", head)
            if not length:
                return
            found = self.server.replied(start.split()[1].decode(), self.rfile.read(int(length[1])))
            if found in {HANG, RESET}:
                if found == HANG:
                    self.rfile.read(1)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            self.wfile.write(found)
