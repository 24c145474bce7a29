"""How near to a provider's limits a run comes, told them and not: python -m tests.benchmarks.limits.

llmock allows 1,200 requests and 60,000 tokens a minute, and charges floor(body bytes / 4) + max_tokens for what it
lets in. 1,000 prompts of 200 characters with max_tokens 50 can't be asked in less than T = max((S - 60,000) / 1,000,
(R - 1,200) / 20) seconds, for S tokens and R requests. Its own report must find nothing to blame.

Then two runs share the stand-in's limit, which nobody told them; the second starts five seconds after the first. What
each is given is counted over the second minute. All in all it takes four and a half minutes.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from tests.killing import command, provider, status, write_rows
from tests.serving import llmock_report, llmock_serving

RPM, TPM, PROMPTS, MAX_TOKENS = 1200, 60_000, 1000, 50


def main() -> None:
    for limits_set in (True, False):
        with llmock_serving("--rpm", str(RPM), "--tpm", str(TPM)) as url, tempfile.TemporaryDirectory() as root:
            run(url, Path(root), limits_set=limits_set)
    with tempfile.TemporaryDirectory() as root:
        share(Path(root))


def write_prompts(path: Path) -> None:
    """Write the prompts."""
    with path.open("w") as file:
        file.writelines(json.dumps({"text": f"{n:04} {'words and more ' * 13}"[:200]}) + "\n" for n in range(PROMPTS))


def least_s() -> float:
    """Return T, the least time for the prompts, in seconds."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 204}], "max_tokens": MAX_TOKENS}
    charged = PROMPTS * (len(json.dumps(body, separators=(",", ":"))) // 4 + MAX_TOKENS)
    return max((charged - TPM) / (TPM / 60), (PROMPTS - RPM) / (RPM / 60))


def run(url: str, root: Path, *, limits_set: bool) -> None:
    """Send the prompts; print the result."""
    prompts, out = root / "prompts.jsonl", root / "out"
    write_prompts(prompts)
    more = ["--set", f"params.max_tokens={MAX_TOKENS}", *(["--rpm", str(RPM), "--tpm", str(TPM)] if limits_set else [])]
    began = time.perf_counter()
    done = subprocess.run(command(f"{url}/v1", prompts, out, *more), capture_output=True, text=True, check=False)
    passed = time.perf_counter() - began
    rows = pq.read_table(out / "data", columns=["status", "attempts"]).to_pylist()
    answered = sum(row["status"] == "ok" for row in rows)
    least = least_s()
    throttled = sum(row["attempts"] - 1 for row in rows)
    verdict = llmock_report(url)
    print(
        f"{'told' if limits_set else 'not told':9} {answered}/{PROMPTS} answered, exit {done.returncode}, {passed:.1f} s,"
        f" T {least:.1f} s: {passed / least - 1:+.1%}, {throttled} throttled, most attempts"
        f" {max(row['attempts'] for row in rows)}; report exits {verdict.returncode}",
        flush=True,
    )
    if verdict.returncode:
        print(verdict.stdout[-2000:])


def share(root: Path) -> None:
    """Print the share of a limit that each of two runs got."""
    write_rows(root / "rows.jsonl", 20_000)
    outs = [root / "first", root / "second"]
    with provider(f"latency=0.5-1.5&rpm={RPM}&burst_s=5") as url:
        running = []
        try:
            for out in outs:
                running.append(subprocess.Popen(command(url, root / "rows.jsonl", out), stderr=subprocess.DEVNULL))
                time.sleep(5)
            time.sleep(55)
            before, began = [status(out)["ok"] for out in outs], time.monotonic()
            time.sleep(60)
            after, passed = [status(out)["ok"] for out in outs], time.monotonic() - began
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()
    given = [late - early for early, late in zip(before, after, strict=True)]
    used = sum(given) / (RPM / 60 * passed)
    shares = " and ".join(f"{each / sum(given):.0%}" for each in given)
    print(f"shared    {shares} of what was answered, {used:.0%} of the limit used", flush=True)


if __name__ == "__main__":
    main()
