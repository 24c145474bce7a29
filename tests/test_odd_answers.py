"""All odd answers at once, from the bytes on a socket to the row in the Parquet file."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator

import pytest

from batchmix.records import Completion, Usage
from tests.conftest import Bench
from tests.send.conftest import GOOD, reply
from tests.send.test_answers import ANSWERS, USAGES

LONG = "long " * 1_000_000
BODIES = [
    *((body, answer) for _, body, answer in ANSWERS),
    *((json.dumps({**GOOD, "usage": said}).encode(), Completion("Paris", finish_reason="stop", usage=usage)) for said, usage in USAGES),
    (json.dumps(GOOD).replace("Paris", LONG).encode(), Completion(LONG, finish_reason="stop", usage=Usage(5, 1, 6))),
]  # fmt: skip


class _Answering(socketserver.StreamRequestHandler):
    """Answers the row that a prompt names."""

    def handle(self) -> None:
        while head := self.rfile.readline():
            while (line := self.rfile.readline()) != b"\r\n":
                head += line.lower()
            found = re.search(rb"content-length: (\d+)", head)
            assert found
            asked = re.search(r"row (\d+)", self.rfile.read(int(found[1])).decode())
            assert asked
            self.wfile.write(reply(200, BODIES[int(asked[1])][0]))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


@pytest.fixture
def provider() -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield "http://127.0.0.1:{1}/v1".format(*server.server_address)
        server.shutdown()
        thread.join()


def test_every_odd_answer_is_a_row_with_all_that_was_said(bench: Bench, provider: str) -> None:
    bench.settings["provider"]["base_url"] = provider
    bench.write(len(BODIES), text="row {}")
    bench.run()
    rows = bench.rows()
    assert [(row["row"], row["status"], row["attempts"], row["error_type"]) for row in rows] == [
        (n, "ok", 1, None) for n in range(len(BODIES))
    ]
    for row, (body, answer) in zip(rows, BODIES, strict=True):
        usage = answer.usage
        assert {name: row[name] for name in ("response", "reasoning", "refusal", "tool_calls", "finish_reason")} == {
            "response": answer.response,
            "reasoning": answer.reasoning,
            "refusal": answer.refusal,
            "tool_calls": answer.tool_calls,
            "finish_reason": answer.finish_reason,
        }
        assert {name: row[name] for name in usage.__struct_fields__} == {
            name: getattr(usage, name) for name in usage.__struct_fields__
        }
        assert row["raw"] == body.decode("utf-8", "replace")
        assert row["served_model"] == "gpt-4o-mini-2024"
