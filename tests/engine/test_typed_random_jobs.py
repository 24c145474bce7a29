"""Random jobs with typed answers that are stopped at random: each chain is asked once, and the account is exact."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import signal
import threading
from typing import Any

import pytest

from batchmix.engine.run_status import Phase
from batchmix.engine.shutdown import StopRequest
from batchmix.errors import BatchmixError, Interrupted
from tests.chain_provider import PRICE, RESET, ChainProvider, Turn
from tests.conftest import Bench
from tests.engine.test_typed_whole_jobs import (  # noqa: F401 - `chained` is a fixture
    CUT_OFF,
    FENCED,
    GOOD,
    VALUE,
    WRONG,
    chained,
    check_account,
)
from tests.polling import wait_until
from tests.wire import error, reply

REFUSED = Turn(None, beside=(("refusal", "No."),))
TURNS = [Turn(GOOD), Turn(FENCED), Turn(WRONG), Turn(""), Turn(FENCED, "length"), CUT_OFF, REFUSED]
ROWS = 24


def taken(chain: tuple[Turn, ...], repair: int, *, is_capped: bool) -> tuple[int, bool]:
    """Return how many answers of its chain a row takes, and whether the last one is valid."""
    is_raised = False
    for number in itertools.count(1):
        turn = chain[min(number, len(chain)) - 1]
        if turn.text == GOOD or (turn.text == FENCED and turn.finish == "stop"):
            return number, True
        if turn is REFUSED or not repair:
            return number, False
        if is_capped and turn.finish == "length" and not is_raised:
            is_raised = True
        elif number - is_raised > repair:
            return number, False
    raise AssertionError


def stopped_at(bench: Bench, provider: ChainProvider, request: int, *, by_signal: bool) -> dict[str, Any]:
    """Stop the next start at its n-th request, by a signal or because the key is refused. Return its options."""
    stop, numbers = StopRequest(), itertools.count(1)
    lock = threading.Lock()

    def count(row: int, place: int) -> None:
        with lock:
            is_last = next(numbers) == request
        if is_last and by_signal:
            stop.stop(Interrupted("interrupted", signal.SIGINT))
            wait_until(lambda: bench.run_status.phase is not Phase.SENDING)
        elif is_last:
            provider.faults.setdefault((row, place), []).insert(0, reply(401, error("key")))

    provider.on_request = count
    return {"stop_request": stop, "keep_going": True}


@pytest.mark.parametrize("seed", range(10))
def test_each_chain_is_asked_once_in_all_starts(bench: Bench, chained: ChainProvider, seed: int) -> None:  # noqa: F811
    rng = random.Random(seed)
    chains = [tuple(rng.choices(TURNS, k=rng.randint(1, 4))) for _ in range(ROWS)]
    repair, samples, is_capped, are_twins = (
        rng.randint(0, 3),
        rng.choice([1, 2]),
        rng.random() < 0.5,
        rng.random() < 0.3,
    )
    params = {"max_tokens": 51} if is_capped else {}
    bench.settings["answer"] |= {"repair": repair, "on_invalid": "keep", "send": rng.choice(["prompt", "tool"])}
    bench.settings["output"]["shard_rows"] = rng.choice([5, 100])
    bench.settings |= {
        "models": [{"id": "m", "name": "m"}, {"id": "o", "name": "o"}], "prices": {"m": PRICE, "o": PRICE},
        "samples": samples, "params": params | {"stream": rng.random() < 0.5},
        "limits": {"concurrency": rng.choice([1, 8])}, "reuse": {"dedupe": are_twins},
    }  # fmt: skip
    del bench.settings["model"]
    prompts = [row // 2 if are_twins else row for row in range(ROWS)]
    bench.source.write_text("".join(json.dumps({"n": prompt, "text": ""}) + "\n" for prompt in prompts))
    chained.chain_of = lambda row: chains[row]
    faults = [reply(500, error("broken")), reply(429, error("slow down"), "Retry-After: 0"), RESET]
    chained.faults = {(rng.randrange(ROWS), rng.randrange(3)): [rng.choice(faults)] for _ in range(4)}
    for more in rng.sample([{}, {}, {"canary": 3}, {"models": ("o",)}], 3):
        options = stopped_at(bench, chained, rng.randint(1, 3 * ROWS), by_signal=rng.random() < 0.5)
        with contextlib.suppress(BatchmixError):  # without one, it ended before that request
            bench.run(**options, **more)
    chained.on_request = lambda row, place: None
    view = bench.run()
    ends = [taken(chain, repair, is_capped=is_capped) for chain in chains]
    assert chained.places() == {row: sorted([*range(ends[row][0])] * 2 * samples) for row in sorted(set(prompts))}
    check_account(view, chained)
    for row in bench.rows():
        number, is_valid = ends[prompts[row["row"]]]
        assert (row["status"], row["answer"]) == ("ok", VALUE if is_valid else None)
        assert row["repairs"] == (0 if row["reused_from"] else number - 1)
        assert row["error_type"] == (None if is_valid else "schema")
    account, rows = view.summary()["answers"], bench.rows()
    valid = [row for row in rows if row["answer"] is not None]
    assert account["lost"] == len(rows) - len(valid)
    assert account["repairs"] == sum(row["repairs"] for row in rows)
    own = sum(not row["reused_from"] for row in valid)
    assert sum(account["invalid_paths"].values()) == len(chained.answered) - own
