from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import aiohttp
import pytest

from batchmix.rehearsal import Behaviour, Rehearsal
from tests.polling import WITHIN_S, first_line

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize("behaviour", ["hang=1&max_faults=50", "latency=60"])
async def test_stops_at_once_and_leaves_no_task(behaviour):
    rehearsal = Rehearsal(Behaviour.parse(behaviour))
    url = await rehearsal.start()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        sending = [asyncio.create_task(session.post(url + "/chat/completions", json=BODY)) for _ in range(50)]
        async with asyncio.timeout(WITHIN_S):
            while rehearsal.totals["requests"] < 50:
                await asyncio.sleep(0)
        begun = time.monotonic()
        await rehearsal.stop()
        assert time.monotonic() - begun < WITHIN_S
        assert asyncio.all_tasks() <= {asyncio.current_task(), *sending}
        response = await asyncio.gather(*sending, return_exceptions=True)
        assert all(isinstance(one, aiohttp.ClientConnectionError) for one in response)
    assert len(rehearsal.records) == 50
    assert not any(record.answered for record in rehearsal.records)


async def test_stops_with_idle_connections_and_frees_its_port():
    async with Rehearsal(Behaviour()) as url, aiohttp.ClientSession() as session:
        async with session.post(url + "/chat/completions", json=BODY) as response:
            assert response.status == 200
        port = int(url.split(":")[2].removesuffix("/v1"))
    assert asyncio.all_tasks() == {asyncio.current_task()}
    async with Rehearsal(Behaviour(), port=port) as again:
        assert again == url


async def test_connections_are_kept_or_closed_as_requested():
    async with Rehearsal(Behaviour()) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2][:-3]))
        for more, kept in ((b"", True), (b"Connection: close\r\n", False)):
            writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split()[0]))
            assert (b"Connection: close" not in head) == kept
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_leaves_while_it_sends_does_no_harm(caplog):
    async with Rehearsal(Behaviour()) as url, aiohttp.ClientSession() as session:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2][:-3]))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with session.post(url + "/chat/completions", json=BODY) as response:
            assert response.status == 200
    assert caplog.records == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_process(number):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "batchmix.rehearsal", "seed=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        url = first_line(process.stdout).strip()
        request = urllib.request.Request(f"{url}/chat/completions", json.dumps(BODY).encode())
        with urllib.request.urlopen(request, timeout=WITHIN_S) as response:
            assert json.load(response)["choices"]
        with urllib.request.urlopen(f"{url.removesuffix('/v1')}/rehearsal/ledger", timeout=WITHIN_S) as response:
            assert [record["answered"] for record in json.load(response)] == [True]
        process.send_signal(number)
        _, complaints = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, complaints) == (0, "")


def test_process_names_a_mistake():
    call = [sys.executable, "-m", "batchmix.rehearsal", "sed=1"]
    found = subprocess.run(call, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "did you mean seed?" in found.stderr


def test_process_stops_at_once_while_a_request_hangs():
    call = [sys.executable, "-W", "error", "-m", "batchmix.rehearsal", "hang=1"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = first_line(process.stdout).strip()
        host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
        with socket.create_connection((host, int(port))) as client:
            body = json.dumps(BODY).encode()
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            until = time.monotonic() + WITHIN_S
            while time.monotonic() < until:
                with urllib.request.urlopen(
                    f"{url.removesuffix('/v1')}/rehearsal/totals", timeout=WITHIN_S
                ) as response:
                    if json.load(response).get("hang"):
                        break
            else:
                pytest.fail("the request did not come")
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, complaints = process.communicate(timeout=WITHIN_S)
            assert time.monotonic() - begun < WITHIN_S
    assert (process.returncode, complaints) == (0, "")


def test_process_refuses_connections_for_a_while():
    call = [sys.executable, "-W", "error", "-m", "batchmix.rehearsal", "outage=0:2:refused"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = first_line(process.stdout).strip() + "/models"
        refused = 0
        until = time.monotonic() + WITHIN_S
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(url, timeout=WITHIN_S) as response:
                    response.read()
                    if refused:
                        break
            except urllib.error.URLError as error:
                refused += isinstance(error.reason, ConnectionRefusedError)
            except ConnectionError:
                pass
        assert refused
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, complaints) == (0, "")
