"""A run whose folder is in object storage, on loopback: python -m tests.benchmarks.object_storage [PART...].

    kills    5,000 rows, killed 20 times; each start goes on from an empty disk, as another machine would
    speed    the same run beside one with its folder on the disk: rates and peak memory, in turns
    read     the same for the input: JSON lines and Parquet
    stopped  a process that is stopped loses the run to another one, and sends nothing when it goes on; 2 minutes

The server is moto's. In the part speed it is on core 0 with nginx, which answers at once, and the runs are on core 1.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.json
import pyarrow.parquet as pq

from batchmix.remote.objects import Objects
from tests.benchmarks.servers import nginx
from tests.killing import Outcome, command, compare_ledger, fetch, provider, results, write_rows
from tests.object_storage import BUCKET, object_storage
from tests.polling import wait_until

_CORE = 1
_FILE_ROWS = 10_000
_UNSENT_S = 1.0
"""Seconds of answers that a kill may cost."""


def kills(rows: int, count: int) -> None:
    """Kill a run until it was killed often enough, each start on an empty disk, and compare table and ledger."""
    with tempfile.TemporaryDirectory() as folder, provider("latency=0.05-0.2&seed=7") as url, object_storage() as env:
        root = Path(folder)
        write_rows(root / "rows.jsonl", rows)
        more = ["--concurrency", "200", "--set", "output.shard_rows=1000", "--set", "name=kills"]
        subprocess.run(command(url, root / "rows.jsonl", root / "whole", *more), check=True)
        expected = results(root / "whole")
        seed = done = 0
        again = late = 0
        while done < count:
            seed += 1
            fetch(url, "reset", "")
            call = command(url, root / "rows.jsonl", Path("OUT"), *more)
            call[call.index("OUT")] = f"s3://{BUCKET}/run-{seed}"
            outcome = _killed_until_done(call, url, env, root / f"caches-{seed}", seed)
            out = root / f"run-{seed}"
            _downloaded(f"s3://{BUCKET}/run-{seed}", out, env)
            assert results(out).equals(expected), f"seed {seed}: the results differ"
            done += outcome.kills
            again, late = again + len(outcome.repeated), late + outcome.late
            print(f"seed {seed}: {outcome}", flush=True)
        print(f"{done} kills: asked again {again} that left {_UNSENT_S:g} s or more before a kill, {late} later ones")


def _killed_until_done(call: list[str], url: str, env: dict[str, str], caches: Path, seed: int) -> Outcome:
    rng, moments, outcome = random.Random(seed), [], Outcome()
    for start in range(1000):
        cache = caches / str(start)
        process = subprocess.Popen(call, env=os.environ | env | {"XDG_CACHE_HOME": str(cache)})
        try:
            code = process.wait(rng.uniform(0.8, 2.5) * 1.1**start)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            moments.append(time.monotonic())
            process.wait()
            continue
        assert code == 0, f"exit code {code}"
        break
    outcome.kills = len(moments)
    compare_ledger(outcome, url, moments, _UNSENT_S)
    return outcome


def _downloaded(url: str, out: Path, env: dict[str, str]) -> None:
    """Copy the parts of a run to a folder, by the storage's own client."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url=env["AWS_ENDPOINT_URL"], region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"], aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    prefix = f"{url.removeprefix(f's3://{BUCKET}/')}/data/"
    (out / "data").mkdir(parents=True)
    for each in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]:
        client.download_file(BUCKET, each["Key"], str(out / "data" / each["Key"].rpartition("/")[2]))


def speed(rows: int, rounds: int) -> None:
    """Run the same job with its folder on the disk and in object storage, in turns."""
    with tempfile.TemporaryDirectory() as folder, nginx() as server, object_storage(core=0) as env:
        root = Path(folder)
        write_rows(root / "rows.jsonl", rows)

        def call(is_remote: bool, number: int) -> list[str]:
            made = command(server.url, root / "rows.jsonl", Path("OUT"), "--concurrency", "64")
            made[made.index("OUT")] = f"s3://{BUCKET}/speed-{number}" if is_remote else f"{root}/run-{number}"
            return made

        _compare(call, env | {"XDG_CACHE_HOME": f"{root}/cache"}, rounds)


def read(rows: int, rounds: int) -> None:
    """Run the same job over input on the disk and in object storage, in turns: JSON lines, then Parquet.

    The input is many files, since the server copies the whole of an object for each range that is read of it.
    """
    with tempfile.TemporaryDirectory() as folder, nginx() as server, object_storage(core=0) as env:
        root = Path(folder)
        os.environ.update(env)
        there = Objects(f"s3://{BUCKET}/in")
        for number, first in enumerate(range(0, rows, _FILE_ROWS)):
            lines, table = root / f"{number:03}.jsonl", root / f"{number:03}.parquet"
            write_rows(lines, min(_FILE_ROWS, rows - first), prompt_bytes=500)
            pq.write_table(pyarrow.json.read_json(lines), table, row_group_size=5000)
            for path in (lines, table):
                there.upload(path.name, path, None)
        for name in ("*.jsonl", "*.parquet"):
            print(f"{name}, {sum(path.stat().st_size for path in root.glob(name)) / (1 << 20):.0f} MB:", flush=True)

            def call(is_remote: bool, number: int, name: str = name) -> list[str]:
                out = root / f"{name[2:]}-{number}-{is_remote}"
                made = command(server.url, Path("IN"), out, "--concurrency", "64", "--set", "name=read")
                made[made.index("IN")] = f"s3://{BUCKET}/in/{name}" if is_remote else f"{root}/{name}"
                return made

            _compare(call, env, rounds)


def _compare(call: Callable[[bool, int], list[str]], env: dict[str, str], rounds: int) -> None:
    """Run calls in turns. `call` makes one of whether it is about object storage, and of the number of the round."""
    measured: dict[str, list[tuple[float, float, float]]] = {"disk": [], "object storage": []}
    for number in range(rounds):
        for where, runs in measured.items():
            runs.append(_measured(call(where == "object storage", number), env))
            seconds, memory, cpu = runs[-1]
            print(f"{where:15} {seconds:6.1f} s {memory:6.0f} MB {cpu:6.1f} s CPU", flush=True)
    disk, there = ([statistics.median(each) for each in zip(*runs, strict=True)] for runs in measured.values())
    print(
        f"object storage beside the disk: {disk[0] / there[0]:.2f} of the speed (wanted 0.9), {there[1] - disk[1]:+.0f} MB"
    )


def _measured(call: list[str], env: dict[str, str]) -> tuple[float, float, float]:
    """Return the seconds that a program took, its peak memory in MB, and its CPU seconds."""
    began = time.monotonic()
    process = subprocess.Popen(["taskset", "-c", str(_CORE), *call], env=os.environ | env)
    _, code, usage = os.wait4(process.pid, 0)
    assert code == 0, f"exit code {code}"
    return time.monotonic() - began, usage.ru_maxrss / (1 << 10), usage.ru_utime + usage.ru_stime


def stopped() -> None:
    """Stop a process that works on a run, start another, and let the first go on."""
    with tempfile.TemporaryDirectory() as folder, provider("latency=0.2&seed=7") as url, object_storage() as env:
        root = Path(folder)
        write_rows(root / "rows.jsonl", 20_000)
        call = command(url, root / "rows.jsonl", Path("OUT"), "--concurrency", "20")
        call[call.index("OUT")] = f"s3://{BUCKET}/stopped"
        first = _started(call, env, root / "first")
        wait_until(lambda: fetch(url, "totals").get("requests", 0) > 500)
        second = _started(call, env, root / "second")
        print(f"the second, beside the first: exit code {second.wait()} {_said(second)}", flush=True)
        os.kill(first.pid, signal.SIGSTOP)
        stopped_at = time.monotonic()
        time.sleep(1)  # answers on their way are answered
        before = fetch(url, "totals")["requests"]
        second = _started(call, env, root / "third")
        wait_until(lambda: fetch(url, "totals")["requests"] > before + 100, 120)
        print(f"the second sends {time.monotonic() - stopped_at:.0f} s after the first was stopped", flush=True)
        at = time.monotonic()
        os.kill(first.pid, signal.SIGCONT)
        print(f"the first, going on: exit code {first.wait()} {_said(first)}", flush=True)
        os.kill(second.pid, signal.SIGINT)
        second.wait()
        begun = [record for record in fetch(url, "ledger") if record["begun"] >= at]
        digests = {record["digest"] for record in fetch(url, "ledger") if record["begun"] < at and record["answered"]}
        twice = [record["prompt"] for record in begun if record["digest"] in digests]
        print(f"sent after the first went on: {len(begun)} requests, {len(twice)} of them answered before: {twice[:3]}")


def _started(call: list[str], env: dict[str, str], cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        call, env=os.environ | env | {"XDG_CACHE_HOME": str(cache)}, stderr=subprocess.PIPE, text=True
    )


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read().strip()


PARTS: dict[str, Any] = {"kills": kills, "speed": speed, "read": read, "stopped": stopped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; default: all")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=60_000, help="rows of the parts speed and read")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for part in args.parts or PARTS:
        print(f"{part}:", flush=True)
        PARTS[part](*{"kills": (5000, args.kills), "stopped": ()}.get(part, (args.rows, args.rounds)))


if __name__ == "__main__":
    main()
