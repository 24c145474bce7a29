"""The examples in the documentation run as they are: commands against the stand-in provider, then the Python."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import json
import shlex
import shutil
from pathlib import Path

import pytest

from tests.calling import called
from tests.documents import PAGES, ROOT, blocks, page
from tests.object_storage import object_storage

SET_UP = ("python3 -m venv", "pip install")
"""The beginnings of the commands that install something, which are not run here."""


def test_each_command_and_each_piece_of_python_in_the_pages_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIHUBMIX_BASE_URL", "rehearsal:")
    make_inputs(tmp_path)
    with object_storage("bucket") as storage:
        for name, value in (storage | {"XDG_CACHE_HOME": str(tmp_path / "cache")}).items():
            monkeypatch.setenv(name, value)
        run_commands(monkeypatch)
    run_python()


def run_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in PAGES:
        for line in "".join(blocks(path.read_text(), "sh")).splitlines():
            if not line.startswith(SET_UP):
                program, *words = shlex.split(line)
                assert program == "batchmix", line
                done = called(monkeypatch, *words)
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                assert "Traceback" not in done.stderr


def run_python() -> None:
    for path in PAGES:
        names: dict[str, object] = {}
        with asyncio.Runner() as runner, contextlib.redirect_stdout(io.StringIO()):
            for block in blocks(path.read_text(), "python"):
                code = compile(block, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
                awaited = eval(code, names)
                if awaited is not None:
                    runner.run(awaited)


def make_inputs(folder: Path) -> None:
    """Create the files that the examples read: the jobs of this repository, and three inputs."""
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    rows = [{"prompt": f"Say {number}.", "text": f"It was fine, {number}."} for number in range(30)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows))
    (folder / "tickets.jsonl").write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows))
    (folder / "reviews.csv").write_text("text\n" + "".join(f'"{row["text"]}"\n' for row in rows))
    job = next(block for block in blocks(page("README.md"), "toml") if 'name = "tickets"' in block)
    (folder / "tickets.toml").write_text(job)
    (folder / "replies.toml").write_text(
        next(block for block in blocks(page("jobs/chains.md"), "toml") if "[[steps]]" in block)
    )
