"""What a call of `bm.run` does to its process: nothing that the process, or one forked from it, notices afterwards."""

from __future__ import annotations

import pickle
import random
import resource
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import batchmix as bm
from tests.conftest import Provider

FORK = """
import gc, os, sys, threading
import batchmix as bm
from tests.killing import fetch
from tests.polling import wait_until
url, out = sys.argv[1:]
def work():
    rows = [{"text": f"word {n}"} for n in range(60)]
    return bm.run(rows, "Say {{ text }}", model="m", base_url=url, provider={"api_key_env": ""}, out=out, concurrency=10)
settings = lambda: (sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count())
before = settings()
thread = threading.Thread(target=work)
thread.start()
wait_until(lambda: fetch(url, "totals").get("requests", 0) >= 15)
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.close(writing)
    os.read(reading, 1)  # until the parent has ended or closed its end
    os._exit(0 if settings() == before else 1)
thread.join()
print(work().status)
os.close(writing)
print(os.waitpid(child, 0)[1])
"""


def test_the_limit_of_open_files_is_restored(standin: Provider, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = (200, before[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, low)
    try:
        rows = [f"word {number}" for number in range(400)]
        bm.run(
            rows,
            "Say {{ text }}",
            model="m",
            base_url=standin.url,
            provider={"api_key_env": ""},
            out=tmp_path / "r",
            concurrency=400,
        )
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == low
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


HEADERS = {"X-Auth": "a secret value of a header"}
KEY = "sk-0123456789abcdef"


def test_no_secret_is_in_a_pickle_a_repr_or_a_local_variable_of_ours(
    standin: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    at: Any = {"model": "m", "base_url": standin.url, "provider": {"api_key_env": "SOME_KEY", "headers": HEADERS}}
    run = bm.run(["a"], "Say {{ text }}", **at, out=tmp_path / "r")
    assert HEADERS["X-Auth"].encode() not in pickle.dumps(run)
    assert pickle.loads(pickle.dumps(run)).folder == run.folder
    assert HEADERS["X-Auth"] not in repr(bm.Job("rows.jsonl", **at).checked)
    monkeypatch.setenv("SOME_KEY", f"{KEY} x")  # refused, and not shown
    empty: Any = {}
    for more in (empty, {"concurrency": 0}):
        with pytest.raises(bm.UsageError) as caught:
            bm.run(["a"], "Say {{ text }}", **at | more, out=tmp_path / "s")
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        inside = [frame.locals for frame in shown.stack if "batchmix" in Path(frame.filename).parts]
        assert inside
        assert not any(KEY in value for variables in inside for value in (variables or {}).values())


def test_a_forked_process_holds_no_lock_and_no_settings_of_a_run(standin: Provider, tmp_path: Path) -> None:
    standin.behave("latency=0.2")
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, standin.url, str(tmp_path / "run")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (process.stdout, process.stderr) == ("finished\n0\n", "")


THREAD = """
import sys, threading
import batchmix as bm
from tests.killing import fetch
from tests.polling import wait_until
rows = [{"text": f"word {n}"} for n in range(60)]
def work():
    try:
        bm.run(rows, "Say {{ text }}", model="m", base_url=sys.argv[1], provider={"api_key_env": ""}, out=sys.argv[2],
               concurrency=10, output={"shard_rows": 10})
    except bm.Interrupted as error:
        print(error)
threading.Thread(target=work).start()
wait_until(lambda: fetch(sys.argv[1], "totals").get("requests", 0) >= 15)
"""


def test_a_thread_that_outlives_the_main_thread_is_stopped_with_a_reason(standin: Provider, tmp_path: Path) -> None:
    standin.behave("latency=0.2")
    out = tmp_path / "run"
    process = subprocess.run(
        [sys.executable, "-c", THREAD, standin.url, str(out)], capture_output=True, text=True, timeout=60
    )
    assert process.stdout.startswith("the program's main thread has ended")
    assert process.stderr == ""
    answered = standin.request_count()
    assert 15 <= answered < 60
    assert bm.open(out).go_on().summary["ok"] == 60
    assert standin.request_count() == 60  # so that those in flight had returned


def test_a_table_for_which_there_is_no_space_is_an_error_of_ours(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{number} " + random.Random(number).randbytes(20_000).hex() for number in range(100)]})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(bm.Stopped, match="no space left"):
            bm.run(table, "Say {{ text }}", model="m", base_url="rehearsal:", out=tmp_path / "r")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_threads_that_are_no_threads_are_refused_instead_of_a_deadlock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = threading.get_ident

    def get_ident() -> int:  # gevent and eventlet put such a function in its place
        return original()

    get_ident.__module__ = "gevent.thread"
    monkeypatch.setattr(threading, "get_ident", get_ident)
    with pytest.raises(bm.UsageError, match="gevent has replaced Python's threads"):
        bm.run([{"text": "a"}], "Say {{ text }}", model="m", base_url="rehearsal:", out=tmp_path / "r")
