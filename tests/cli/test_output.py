"""Output never fails because of its content."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.killing import write_rows

NAMES = [b"na\xc3\xafve \xe2\x80\xa6", b'it\'s $(touch gone) `x` "q"']


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_have_any_name_and_the_last_line_reads_its_data(name: bytes, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 2)
    call = [sys.executable, "-m", "batchmix", "run", "rows.jsonl", "--model", "m", "--prompt", "Say {{ text }}",
            "--base-url", "rehearsal:", "--progress", "none", "--out"]  # fmt: skip
    env = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*call, b"runs/" + name], capture_output=True, cwd=tmp_path, env=env, check=False)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if b"read it" in line).split(maxsplit=2)[2]
    assert shlex.split(line.decode())[0] == sys.executable
    shown = subprocess.run(line, shell=True, capture_output=True, cwd=tmp_path, env=env, check=True)
    assert b"request_hash" in shown.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "runs"]


def test_a_folder_whose_name_is_not_utf_8_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """No Parquet reader could open it."""
    write_rows(tmp_path / "rows.jsonl", 2)
    call = [sys.executable, "-m", "batchmix", "run", "rows.jsonl", "--model", "m", "--base-url", "rehearsal:", "--out"]
    done = subprocess.run([*call, b"b\xffd"], capture_output=True, cwd=tmp_path, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "batchmix: output.path: is not UTF-8; choose another folder with --out\n",
    )
