"""The recipes for Python run from top to bottom, as a notebook and as a script; a killed notebook is finished elsewhere."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

import batchmix as bm
from tests.calling import batchmix
from tests.killing import Outcome, compare_ledger, fetch, provider
from tests.polling import WITHIN_S, wait_until
from tests.recipes import NOTEBOOK, SCRIPT, notebook_of, notebook_text


def test_notebook_and_script_are_the_same() -> None:
    assert NOTEBOOK.read_text() == notebook_text(notebook_of(SCRIPT.read_text())), "python -m tests.recipes"


def answers(root: Path) -> dict[str, list[str]]:
    """Return the answers of each run below `runs/`."""
    folders = [path.parent for path in (root / "runs").glob("*/run.json")]
    return {
        folder.name: sorted(result.response or result.error_type or "" for result in bm.open(folder))
        for folder in folders
        if folder.name != "stream"  # broken off, and then continued
    }


def test_the_recipes_run_as_a_notebook_and_as_a_script_with_the_same_answers(tmp_path: Path) -> None:
    roots = {name: tmp_path / name for name in ("notebook", "script")}
    for root in roots.values():
        root.mkdir()
    notebook = notebook_of(SCRIPT.read_text())
    NotebookClient(notebook, timeout=WITHIN_S, resources={"metadata": {"path": str(roots["notebook"])}}).execute()
    done = subprocess.run([sys.executable, SCRIPT], cwd=roots["script"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert answers(roots["notebook"]) == answers(roots["script"])
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:  # at most a progress of each run, and the value; printed is only what the cell prints
        kinds = [output.output_type for output in cell.outputs]
        assert kinds.count("stream") == ("print(" in cell.source), cell.source
        assert kinds.count("display_data") == len(shown_runs(cell.source)), cell.source
    first = next(cell for cell in code if 'out="runs/reviews"' in cell.source)
    progress, value = (output.data["text/html"] for output in first.outputs)
    assert "5/5 rows" in progress
    assert "5 of 5 answered" in value


def shown_runs(code: str) -> list[str]:
    """Return the calls in a cell that run a job."""
    return re.findall(r"(?:\bbm\.(?:run|arun|stream)|\.go_on|\.then)\(", code)


@pytest.fixture
async def kernel(tmp_path: Path) -> AsyncIterator[AsyncKernelManager]:
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel(cwd=str(tmp_path))
    try:
        yield manager
    finally:
        await manager.shutdown_kernel(now=True)


@pytest.mark.slow
async def test_a_run_whose_kernel_is_killed_is_finished_from_a_shell_and_no_answer_is_asked_for_again(
    kernel: AsyncKernelManager, tmp_path: Path
) -> None:
    rows = 400
    with provider("latency=0.05-0.2") as url:
        client = kernel.client()
        client.start_channels()
        await client.wait_for_ready(timeout=WITHIN_S)
        client.execute(textwrap.dedent(f"""
            import batchmix as bm
            rows = [{{"text": f"question {{number}}"}} for number in range({rows})]
            bm.run(rows, "Say {{{{ text }}}}", model="m", out="runs/killed", base_url="{url}",
                   provider={{"api_key_env": ""}}, concurrency=16)
        """))  # fmt: skip
        await asyncio.to_thread(wait_until, lambda: fetch(url, "account")["answered"] >= rows // 4)
        killed_at = time.monotonic()
        await kernel.signal_kernel(9)
        client.stop_channels()
        await asyncio.to_thread(wait_until, lambda: bm.open(tmp_path / "runs/killed").status == "unfinished")
        done = batchmix("resume", "runs/killed", "--progress", "none", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        outcome = Outcome()
        compare_ledger(outcome, url, [killed_at])
        assert outcome.repeated == []
        assert rows <= fetch(url, "account")["requests"] <= rows + 16
    run = bm.open(tmp_path / "runs/killed")
    assert [result.row for result in run if result.ok] == list(range(rows))
