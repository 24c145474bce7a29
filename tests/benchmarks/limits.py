"""How near to a provider's limits a run comes, told them and not: python -m tests.benchmarks.limits.

llmock allows 1,200 requests and 60,000 tokens a minute, and charges floor(body bytes / 4) + max_tokens for what it
lets in. 1,000 prompts of 200 characters with max_tokens 50 can't be asked in less than T = max((S - 60,000) / 1,000,
(R - 1,200) / 20) seconds, for S tokens and R requests. Its own report must find nothing to blame.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pyarrow.parquet as pq

from tests.killing import command

RPM, TPM, PROMPTS, MAX_TOKENS = 1200, 60_000, 1000, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    rounds = parser.parse_args().rounds
    for _ in range(rounds):
        for told in (True, False):
            measure(told=told)


def measure(*, told: bool) -> None:
    """Print one run beside the least possible time."""
    program = shutil.which("llmock") or str(Path(sys.executable).with_name("llmock"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    call = [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--rpm", str(RPM), "--tpm", str(TPM)]
    server = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(url)
        with tempfile.TemporaryDirectory() as root:
            run(url, Path(root), [program, "report", "--url", url], told=told)
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str) -> None:
    """Return when somebody listens."""
    for _ in range(300):
        try:
            urllib.request.urlopen(url).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return


def run(url: str, root: Path, report: list[str], *, told: bool) -> None:
    """Ask the prompts; print what came of it."""
    prompts, out = root / "prompts.jsonl", root / "out"
    with prompts.open("w") as file:
        file.writelines(json.dumps({"text": f"{n:04} {'words and more ' * 13}"[:200]}) + "\n" for n in range(PROMPTS))
    more = ["--set", f"params.max_tokens={MAX_TOKENS}", *(["--rpm", str(RPM), "--tpm", str(TPM)] if told else [])]
    began = time.perf_counter()
    done = subprocess.run(command(f"{url}/v1", prompts, out, *more), capture_output=True, text=True, check=False)
    passed = time.perf_counter() - began
    rows = pq.read_table(out / "data", columns=["status", "attempts"]).to_pylist()
    answered = sum(row["status"] == "ok" for row in rows)
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 204}], "max_tokens": MAX_TOKENS}
    charged = PROMPTS * (len(json.dumps(body, separators=(",", ":"))) // 4 + MAX_TOKENS)
    least = max((charged - TPM) / (TPM / 60), (PROMPTS - RPM) / (RPM / 60))
    throttled = sum(row["attempts"] - 1 for row in rows)
    verdict = subprocess.run(report, capture_output=True, text=True, check=False)
    print(
        f"{'told' if told else 'not told':9} {answered}/{PROMPTS} answered, exit {done.returncode}, {passed:.1f} s,"
        f" T {least:.1f} s: {passed / least - 1:+.1%}, {throttled} throttled, most attempts"
        f" {max(row['attempts'] for row in rows)}; report exits {verdict.returncode}",
        flush=True,
    )
    if verdict.returncode:
        print(verdict.stdout[-2000:])


if __name__ == "__main__":
    main()
