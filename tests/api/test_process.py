"""What a call of `bm.run` does to its process: nothing that the process, or one forked from it, notices afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
