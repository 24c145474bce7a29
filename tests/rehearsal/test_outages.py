from __future__ import annotations

import asyncio

import aiohttp
import pytest

from batchmix.rehearsal import Behaviour, Rehearsal
from batchmix.rehearsal.option_values import Outage
from tests.polling import WITHIN_S


def test_outages_are_read_with_how_everything_fails():
    behaviour = Behaviour.parse("outage=0:5,30:60:hang,100:1:refused")
    assert behaviour.outage == (Outage(0, 5), Outage(30, 60, "hang"), Outage(100, 1, "refused"))
    assert [behaviour.outage_at(at) for at in (0, 5, 30, 89.9, 90, 100)] == [
        "503_down", None, "hang", "hang", None, "refused",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["5", "5:0", "-1:5", "a:b", "0:5:nothing", "0:5:hang:hang", "0:inf", ""])
def test_impossible_outages_are_refused(text):
    with pytest.raises(ValueError, match="rehearsal"):
        Behaviour.parse(f"outage={text}")


async def test_in_an_outage_everything_fails_and_then_nothing(calling):
    async with calling("outage=0:2&key=right") as caller:
        assert [(await caller.send(key=key)).status for key in ("right", "wrong")] == [503, 503]
        assert [record.kind for record in caller.rehearsal.records] == ["503_down"] * 2
        async with asyncio.timeout(WITHIN_S):
            while (await caller.send(key="right")).status == 503:
                pass
        assert (await caller.send(key="wrong")).status == 401


async def test_an_unreadable_request_is_refused_during_an_outage_too(calling):
    async with calling("outage=0:60:half") as caller:
        assert (await caller.send(data=b"{")).status == 400
        assert (await caller.send(path="/embeddings", messages=None, input="x")).body["data"]


async def _until(caller, *, refused):
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                response = await caller.send()
            except aiohttp.ClientConnectionError as error:  # a request in flight is cut
                if refused and isinstance(getattr(error, "os_error", None), ConnectionRefusedError):
                    return
            else:
                if not refused and response.status == 200:
                    return


async def test_connections_are_refused_and_later_accepted_at_the_same_port(calling):
    async with calling("outage=0.2:1:refused,2.2:1:refused") as caller:
        for _ in range(2):
            await _until(caller, refused=True)
            await _until(caller, refused=False)
        assert caller.rehearsal.totals["requests"] == caller.rehearsal.totals["answer"]


async def test_requests_in_flight_are_cut_when_connections_are_refused(calling):
    async with calling("outage=1:60:refused&latency=30") as caller:
        with pytest.raises(aiohttp.ClientConnectionError):
            await caller.send()
        (record,) = caller.rehearsal.records
        assert not record.answered
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_another_behaviour_ends_an_outage():
    async with Rehearsal(Behaviour.parse("outage=30:60:refused")) as url, aiohttp.ClientSession() as session:
        control = url.removesuffix("/v1") + "/rehearsal/"
        async with session.post(control + "behaviour", data="outage=0.1:1:503_down") as response:
            assert response.status == 200
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        seen = []
        async with asyncio.timeout(WITHIN_S):
            while seen[-2:] != [503, 200]:
                async with session.post(url + "/chat/completions", json=body) as response:
                    seen.append(response.status)
