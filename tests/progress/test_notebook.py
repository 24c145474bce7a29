"""In a notebook, the progress is one output of the cell that runs, updated in place."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import pytest
import pytest_asyncio
from jupyter_client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager

from batchmix.engine.run_status import Idle, Phase, RunStatus
from batchmix.errors import UsageError
from batchmix.progress.lines import run_parts
from batchmix.progress.page import final_page, progress_page
from batchmix.progress.shown import progress_shown
from batchmix.records import Bottleneck
from batchmix.redact import Secrets
from tests.polling import WITHIN_S
from tests.progress.test_terminal import CHECKED, MODELS, busy, lane

RATES = [(40.0, 8000.0)]
PRELUDE = """
import asyncio, threading
from batchmix.engine.run_status import LaneStatus, Phase, RunStatus
from batchmix.progress import notebook
from batchmix.progress.shown import progress_shown

class Meter(notebook.RateMeter):
    looks, looked = 0, threading.Condition()

    def now(self):
        with self.looked:
            Meter.looks += 1
            self.looked.notify_all()
        return super().now()

notebook.RateMeter = Meter
notebook._UPDATE_S = 0.01

class Turn:
    def __init__(self, name):
        self.lane = LaneStatus(name, results=10)
        self.status = RunStatus(phase=Phase.SENDING, results=10, lanes=[self.lane, LaneStatus("other")])

    def answer(self, rows, outputs=1):
        self.lane.count_earlier(rows, 0)
        with Meter.looked:  # the second look from now on begins after what the first one found was shown
            then = Meter.looks + 2 * outputs
            assert Meter.looked.wait_for(lambda: Meter.looks >= then, WITHIN_S)
"""


class Texts(HTMLParser):
    """Collects the texts and the names of the elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= {"style"}
        self.tags.append(tag)


def test_the_page_says_of_a_run_what_the_bar_says() -> None:
    texts = Texts(progress_page(busy(), RATES)).texts
    assert texts == ["12%", " 12,347/100,000 rows", " · ".join(run_parts(busy(), RATES, limits=True))]
    assert "37 min left · $0.5400 · 40.0 answers/s" in texts[-1]
    assert texts[-1].endswith("limited by requests per minute")


def test_the_page_has_a_line_for_each_of_several_models() -> None:
    texts = Texts(progress_page(busy(*MODELS), [(40.0, 80.0), (0.0, 0.0), (0.0, 0.0), (0.01, 0.0)])).texts
    assert " ".join(texts[texts.index("gpt-4o-mini") :][:6]) == ("gpt-4o-mini 12,347/100,000 37 min $0.5400 40.0 2")
    assert [texts.count(words) for words in ("done", "stopped", "千问")] == [1, 1, 1]
    assert sum(text.startswith("pause until") for text in texts) == 1


def test_the_page_shows_how_the_answers_of_each_model_fared() -> None:
    typed = [lane(name, checked=CHECKED) for name in ("a", "b")]
    for page, end in ((progress_page(busy(*typed), RATES), "limited by"), (final_page(busy(*typed), 9.0), "state")):
        texts = Texts(page).texts
        head = texts.index("failed")
        assert texts[head : head + 4] == ["failed", "healed", "repaired", "lost"]
        assert re.search(r"\|2\|301\|40\|4\|", "|".join(texts))
        assert "602 healed, 80 repaired, 8 lost" in "".join(texts)
        assert end == "state" or texts[head + 4] == end
    plain = Texts(progress_page(busy(lane("a"), lane("b")), RATES)).texts
    assert ("failed" in plain, "healed" in plain) == (True, False)


def test_of_many_models_the_page_shows_the_busiest_and_counts_the_others() -> None:
    lanes = [lane(f"m{number}") for number in range(30)]
    texts = Texts(progress_page(busy(*lanes), [(float(number), 0.0) for number in range(30)])).texts
    assert [text for text in texts if re.fullmatch(r"m\d+", text)] == [f"m{number}" for number in range(19, 30)]
    assert texts[-1] == "… and 19 more"


@pytest.mark.parametrize(("run_status", "begins"), [
    (RunStatus(), "starting"), (RunStatus(phase=Phase.SCANNING, scanned=5), "scanning the input: 5 rows"),
])  # fmt: skip
def test_before_the_first_request_the_page_says_what_happens(run_status: RunStatus, begins: str) -> None:
    assert Texts(progress_page(run_status, [])).texts == [begins]


def test_a_drained_run_says_so_and_a_finished_one_shows_no_rates() -> None:
    assert "draining: no new requests" in Texts(progress_page(busy(phase=Phase.DRAINING), RATES)).texts[-1]
    assert Texts(final_page(busy(), 75.0)).texts == [
        "12%", " 12,347/100,000 rows", "$0.5400 · 2 failed · took 75 s",
    ]  # fmt: skip
    stopped = lane("b")
    stopped.stop(Idle.STOPPED)
    last = Texts(final_page(busy(lane("a", limited_by=Bottleneck.TOKENS), stopped), 75.0)).texts
    assert ("stopped" in last, "tokens per minute" in last, "answers/s" in last) == (True, False, False)
    assert Texts(final_page(RunStatus(), 1.0)).texts == ["nothing was sent"]


def test_nothing_from_outside_becomes_html_and_no_secret_is_shown() -> None:
    key, nasty = "sk-1234567890abcdef", "<script>alert(1)</script>\x1b[2J'\"&"
    run_status = busy(lane(nasty), lane(key))
    run_status.hide(Secrets(key))
    run_status.warn([f"{nasty} of {key}"])
    for page in (progress_page(run_status, RATES), final_page(run_status, 1.0)):
        seen = Texts(page)
        assert set(seen.tags) <= {"div", "b", "table", "tr", "th", "td"}
        assert "<script>alert(1)</script>\\x1b[2J'\"&" in "".join(seen.texts)
        assert ("\x1b" in page, key in page, "***" in page) == (False, False, True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kernel() -> AsyncIterator[AsyncKernelClient]:
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=WITHIN_S)
        await cell(client, f"WITHIN_S = {WITHIN_S}\n{PRELUDE}")
        yield client
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


async def cell(kernel: AsyncKernelClient, code: str) -> tuple[str, list[dict[str, Any]]]:
    """Run a cell. Return its message ID, and all outputs that the kernel sent until it was through with the cell."""
    sent, messages = kernel.execute(textwrap.dedent(code)), []
    async with asyncio.timeout(WITHIN_S):
        while True:
            message = await kernel.get_iopub_msg()
            kind, content = message["msg_type"], message["content"]
            assert kind != "error", "\n".join(content["traceback"])
            if kind == "status" and content["execution_state"] == "idle" and message["parent_header"]["msg_id"] == sent:
                return sent, messages
            if kind not in {"status", "execute_input"}:
                messages.append(message)


def pages(messages: list[dict[str, Any]], model: str) -> list[tuple[str, str, str]]:
    """Return kind, cell and percentage of each output of the run with this model."""
    found = [(message, message["content"]["data"]["text/html"]) for message in messages]
    return [
        (message["msg_type"], message["parent_header"]["msg_id"], re.findall(r"\d+%(?=</b>)", page)[0])
        for message, page in found
        if f">{model}<" in page
    ]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_run_in_a_cell_has_one_output_which_is_updated_only_when_something_changed(
    kernel: AsyncKernelClient,
) -> None:
    here, messages = await cell(kernel, """
        turn = Turn("m")
        with progress_shown(turn.status):
            for rows in (0, 2, 0, 4, 4):
                turn.answer(rows)
    """)  # fmt: skip
    assert pages(messages, "m") == [
        ("display_data", here, "0%"),
        *[("update_display_data", here, percent) for percent in ("20%", "60%", "100%", "100%")],
    ]
    assert len({message["content"]["transient"]["display_id"] for message in messages}) == 1
    assert messages[-1]["content"]["data"]["text/plain"] == "100% 10/10, 0 failed"


LATE = {
    "a task": ("""
        async def run():
            with progress_shown(first.status):
                begun.set()
                await going.wait()
        begun, going = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(run())
        await begun.wait()
    """, "going.set(); await task"),
    "a thread": ("""
        def run():
            with progress_shown(first.status):
                begun.set()
                going.wait()
        begun, going = threading.Event(), threading.Event()
        thread = threading.Thread(target=run)
        thread.start()
        begun.wait()
    """, "going.set(); thread.join()"),
}  # fmt: skip
"""Code of a cell that starts a run which goes on when the cell is through, and code that ends it."""


@pytest.mark.parametrize(("start", "end"), LATE.values(), ids=LATE)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_progress_of_two_runs_at_once_lands_in_the_cells_that_started_them(
    kernel: AsyncKernelClient, start: str, end: str
) -> None:
    one, at_first = await cell(kernel, f"first = Turn('a')\n{textwrap.dedent(start)}\nfirst.answer(0)")
    two, later = await cell(kernel, """
        second = Turn("b")
        with progress_shown(second.status):
            for rows in (2, 3):
                first.answer(rows, outputs=2)
                second.answer(rows, outputs=2)
    """)  # fmt: skip
    _, last = await cell(kernel, end)
    messages = at_first + later + last
    assert [page for page in pages(messages, "a") if page[2] != "0%"] == [
        ("update_display_data", one, percent) for percent in ("20%", "50%", "50%")
    ]
    seen = pages(messages, "b")
    assert {page[1] for page in seen} == {two}
    assert [page[0] for page in seen] == ["display_data", *["update_display_data"] * (len(seen) - 1)]
    assert {message["parent_header"]["msg_id"] for message in last} == {one}


OUTSIDE = """
import sys
from batchmix.engine.run_status import RunStatus
from batchmix.progress.shown import progress_shown
with progress_shown(RunStatus()), progress_shown(RunStatus(), "auto"), progress_shown(RunStatus(), "none"):
    pass
sys.exit("IPython" in sys.modules)
"""


def test_outside_a_notebook_nothing_is_shown_and_ipython_is_not_imported() -> None:
    done = subprocess.run([sys.executable, "-c", OUTSIDE], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_in_a_terminals_ipython_nothing_is_shown() -> None:
    code = OUTSIDE.replace('sys.exit("IPython" in sys.modules)', "assert get_ipython()")
    call = [sys.executable, "-m", "IPython", "--quick", "--colors=nocolor", "-c", code]
    done = subprocess.run(call, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_unknown_mode_is_refused() -> None:
    message = "progress is 'bars'; it must be 'auto', 'bar', 'log' or 'none'"
    with pytest.raises(UsageError, match=message), progress_shown(RunStatus(), "bars"):
        pytest.fail("the run began")
