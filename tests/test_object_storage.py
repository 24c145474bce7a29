"""A run whose folder is in object storage: the same promises, but for the last second before a kill."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w

import batchmix as bm
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.errors import JobError, RunError, RunLocked
from batchmix.job import read_job
from batchmix.redact import Secrets
from batchmix.remote.objects import ANY, Objects
from batchmix.remote.stubs import is_stub
from batchmix.schedule.finish_message import message_of
from batchmix.schedule.state import ScheduledRun
from batchmix.store import mirror
from batchmix.store.events import AttemptSent
from batchmix.store.journal import encode_line
from batchmix.store.manifest import Manifest, decoded_manifest
from batchmix.store.mirror import mirror_of
from batchmix.store.pieces import counting, journal_and_piece
from batchmix.store.remote_lock import RemoteLock
from batchmix.store.working_copy import read_copy, working_copy
from tests.calling import called, refused
from tests.conftest import Bench, EvalBench, Provider
from tests.killing import command, fetch, results, write_rows
from tests.object_storage import BUCKET, azure_storage, object_storage
from tests.polling import wait_until


@pytest.fixture(scope="module")
def _server() -> Iterator[dict[str, str]]:
    with object_storage() as env:
        yield env


@pytest.fixture
def url(_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a run that does not exist yet. The environment leads to the storage, and to an empty cache."""
    for name, value in (_server | {"XDG_CACHE_HOME": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{tmp_path.name}"


def keys(url: str) -> list[str]:
    return [each.key for each in Objects(url).found()]


def run(monkeypatch: pytest.MonkeyPatch, bench: Bench, url: str, *more: str) -> str:
    """Run the bench's rows with their results in object storage; return what was printed."""
    call = command(bench.standin.url, bench.source, Path("OUT"), *more)[3:]
    call[call.index("OUT")] = url
    done = called(monkeypatch, *call, "--set", "output.shard_rows=10")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_folder_there_is_that_of_a_run_on_a_disk(url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(25)
    (bench.root / "cache").mkdir()
    monkeypatch.chdir(bench.root / "cache")  # where the copy has a short path
    said = run(monkeypatch, bench, url)
    assert f"{url}/data" in said
    files = ["ledger.jsonl", "lock", "run.json", "summary.json"]
    parts = [f"data/part-0000{number}.parquet" for number in range(3)]
    assert sorted(set(keys(url)) - {"manifest.json", "_SUCCESS"}) == sorted(files + parts)
    assert not list((bench.root / "cache" / "batchmix").iterdir())  # the copy is gone
    requests = fetch(bench.standin.url, "totals")["requests"]
    bench.write(5, 25)
    run(monkeypatch, bench, url)
    assert fetch(bench.standin.url, "totals")["requests"] == requests + 5


def test_commands_read_it_where_it_is(url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(25)
    run(monkeypatch, bench, url)
    shown = called(monkeypatch, "status", url)
    assert "25 of 25" in shown.stdout
    assert f"{url}/data" in shown.stdout
    out = bench.root / "all.parquet"
    assert called(monkeypatch, "export", url, str(out)).returncode == 0
    assert pq.read_table(out)["row"].to_pylist() == list(range(25))
    assert called(monkeypatch, "report", url).returncode == 0
    assert "report.html" in keys(url)
    before = keys(url)
    assert called(monkeypatch, "resume", url).returncode == 0
    assert keys(url) == before


def test_only_the_footers_of_parts_are_fetched_until_rows_are_read(
    url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(25)
    run(monkeypatch, bench, url)
    fetched: list[str] = []
    download = Objects.download

    def noted(self: Objects, key: str, path: Path) -> None:
        fetched.append(key)
        download(self, key, path)

    monkeypatch.setattr(Objects, "download", noted)
    with read_copy(url) as folder:
        parts = sorted((folder / "data").iterdir())
        assert all(map(is_stub, parts))
        assert not [key for key in fetched if key.startswith("data/")]
    with read_copy(url) as folder:
        from batchmix.engine import reader

        assert sum(batch.num_rows for batch in reader.results(folder, ["row"])) == 25
        assert [key for key in fetched if key.startswith("data/")] == [f"data/{part.name}" for part in parts]


def test_killed_and_gone_on_with_on_an_empty_disk(
    url: str, tmp_path: Path, standin: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "rows.jsonl", 300)
    standin.behave("latency=0.02")
    call = command(standin.url, tmp_path / "rows.jsonl", Path("OUT"), "--concurrency", "8")
    call += ["--set", "output.shard_rows=100", "--set", "name=kills"]
    call[call.index("OUT")] = url
    for start, requests in enumerate((80, 180)):
        process = subprocess.Popen(call, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / f"cache-{start}")})
        wait_until(lambda requests=requests: fetch(standin.url, "totals").get("requests", 0) >= requests)
        assert process.poll() is None
        answered = fetch(standin.url, "totals")["requests"] - 8
        wait_until(functools.partial(_are_there, url, answered))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = called(monkeypatch, *call[3:], XDG_CACHE_HOME=str(tmp_path / "cache-last"))
    assert done.returncode == 0, done.stderr
    with read_copy(url) as folder:
        from batchmix.engine import reader

        assert sum(batch.num_rows for batch in reader.results(folder, ["row"])) == 300
    assert not [key for key in keys(url) if key.startswith("journal/")]
    # What was there before each kill is not asked for again; what came in the second before it may be.
    by_digest: dict[str, int] = {}
    for record in fetch(standin.url, "ledger"):
        by_digest[record["digest"]] = by_digest.get(record["digest"], 0) + 1
    assert len(by_digest) == 300


def _are_there(url: str, answers: int) -> bool:
    """Return whether so many answers are in object storage."""
    with read_copy(url) as folder:
        from batchmix.engine import reader

        return reader.look(folder).totals.ok >= answers


def test_a_second_process_is_refused_and_told_who_works_on_it(
    url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batchmix.store import remote_lock

    bench.write(5)
    run(monkeypatch, bench, url)
    monkeypatch.setattr(remote_lock, "RENEW_S", 0.05)
    lock = remote_lock.RemoteLock(Objects(url))
    lock.take()
    refused(called(monkeypatch, "resume", url), url, f"process {os.getpid()} on")
    lock.release()


def test_objects_of_others_are_left_alone(url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    Objects(url).put("notes.txt", b"mine", None)
    bench.write(5)
    call = command(bench.standin.url, bench.source, Path("OUT"))[3:]
    call[call.index("OUT")] = url
    refused(called(monkeypatch, *call), f"{url}: is not a run folder: it holds 'notes.txt'")
    assert keys(url) == ["notes.txt"]
    assert not fetch(bench.standin.url, "totals")
    run(monkeypatch, bench, f"{url}/run")
    Objects(f"{url}/run").put("notes.txt", b"mine", None)
    run(monkeypatch, bench, f"{url}/run")
    assert Objects(url).get("run/notes.txt")[0] == b"mine"


def test_a_bucket_that_does_not_exist_is_named(url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(called(monkeypatch, "status", "s3://no-such-bucket/run"), "s3://no-such-bucket/run", "NoSuchBucket")
    refused(called(monkeypatch, "status", url), f"{url}: is no run: it has no run.json")


def test_a_copy_that_a_kill_left_is_gone_on_with_unless_the_run_went_on_elsewhere(
    url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(5)
    with monkeypatch.context() as patch:
        patch.setattr("batchmix.store.working_copy._remove", lambda *_: None)
        run(monkeypatch, bench, url)  # leaves its copy
    (copy,) = (bench.root / "cache" / "batchmix").iterdir()
    folder = next(path for path in copy.iterdir() if path.is_dir())
    assert not is_stub(folder / "data" / "part-00000.parquet")
    uploaded: list[str] = []
    upload = Objects.upload

    def noted(self: Objects, key: str, path: Path, expected: str | None) -> str | None:
        uploaded.append(key)
        return upload(self, key, path, expected)

    monkeypatch.setattr(Objects, "upload", noted)
    with monkeypatch.context() as patch:
        patch.setattr("batchmix.store.working_copy._remove", lambda *_: None)
        run(monkeypatch, bench, url)
    assert "data/part-00000.parquet" not in uploaded  # it is known to be there
    run(monkeypatch, bench, url, "--set", "output.raw=true")
    bench.write(5, 5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(bench.root / "elsewhere"))
    run(monkeypatch, bench, url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(bench.root / "cache"))
    run(monkeypatch, bench, url)
    assert fetch(bench.standin.url, "totals")["requests"] == 10


def test_a_shard_that_is_sealed_while_it_is_read_is_read_from_its_part(
    url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(20)
    run(monkeypatch, bench, url)
    piece = "journal/00001-000/000001-000-000001.base.jsonl"
    objects = Objects(url)
    objects.put(piece, b"{}\n", None)
    get = Objects.get

    def sealed_meanwhile(self: Objects, key: str) -> tuple[bytes, str | None]:
        if key == piece:
            objects.delete([piece])
        return get(self, key)

    monkeypatch.setattr(Objects, "get", sealed_meanwhile)
    with read_copy(url) as folder:
        assert not list((folder / "journal").glob("*"))
        assert len(list((folder / "data").iterdir())) == 2


def test_a_copy_that_a_kill_left_half_made_is_made_anew(
    url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(5)
    run(monkeypatch, bench, url)
    before = {key: Objects(url).get(key)[0] for key in keys(url) if key not in {"lock", "run.json", "summary.json"}}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr("batchmix.store.working_copy.write_stub", killed)
        patch.setattr("batchmix.store.remote_lock.RemoteLock.release", lambda lock: lock._released.set())
        with pytest.raises(KeyboardInterrupt):
            stack.enter_context(working_copy(url))
    state = msgspec.json.decode(Objects(url).get("lock")[0])
    Objects(url).put("lock", msgspec.json.encode(state | {"holder": ""}), ANY)  # its process is dead
    run(monkeypatch, bench, url)
    assert {key: Objects(url).get(key)[0] for key in before} == before
    assert fetch(bench.standin.url, "totals")["requests"] == 5


def test_a_journal_that_is_first_seen_empty_counts_once_it_is_not(url: str) -> None:
    with working_copy(url) as folder:
        (folder / "run.json").write_text("{}")
        (folder / "journal").mkdir()
        journal = folder / "journal" / "00000-000.jsonl"
        journal.touch()
        found = mirror_of(folder)
        assert found is not None
        found.flush()
        line = encode_line(AttemptSent(0, "m", 0, 1, "hash", 0))
        journal.write_bytes(line)
        found.flush()
        with journal.open("ab") as file:
            file.write(line)
        found.flush()
        pieces = [named[1] for key in keys(url) if (named := journal_and_piece(key))]
        assert len(counting(pieces)) == 2


def test_old_parts_leave_the_disk(url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_KEPT_BYTES", 1)
    left: list[bool] = []
    monkeypatch.setattr(
        "batchmix.store.working_copy._remove", lambda root, _: left.extend(map(is_stub, root.rglob("*.parquet")))
    )
    bench.write(25)
    run(monkeypatch, bench, url)
    assert left == [True] * 3


def test_from_python(url: str, bench: Bench) -> None:
    settings: bm.Settings = {"base_url": bench.standin.url, "provider": {"api_key_env": ""}, "progress": "none"}
    rows = [{"text": f"word {number}"} for number in range(20)]
    assert bm.plan(rows, "Say {{ text }}", model="m", out=url, **settings).requests == 20
    run = bm.run(rows, "Say {{ text }}", model="m", out=url, **settings)
    assert (run.status, len(list(run)), run.url) == ("finished", 20, url)
    assert repr(run) == f"<Run {url}: finished, 20 of 20 answered>"
    assert bm.plan(rows, "Say {{ text }}", model="m", out=url, **settings).requests == 0
    again = bm.open(url).go_on(**settings)
    assert (again.url, len(again)) == (url, 20)
    then = run.then("Again {{ draft }}", draft="response", out=f"{url}-then", **settings)
    assert [result.row for result in then] == list(range(20))
    with pytest.raises(RunError, match=f"{url}-none: is no run"):
        bm.open(f"{url}-none")
    copies = [run.folder, again.folder, then.folder]
    del run, again, then
    assert not any(copy.exists() for copy in copies)


def test_an_evaluated_run(url: str, evaluated: EvalBench, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated.write_said([{"said": "a", "answer": "a"}, {"said": "b", "answer": "c"}])
    evaluated.settings["output"]["path"] = url
    job = evaluated.root / "job.toml"
    job.write_text(tomli_w.dumps(evaluated.settings))
    done = called(monkeypatch, "run", str(job), "--progress", "none")
    assert done.returncode == 0, done.stderr
    assert {"evaluation/metrics.json", "evaluation/scores.parquet"} <= set(keys(url))
    done = called(monkeypatch, "eval", url)
    assert (done.returncode, "includes" in done.stdout) == (0, True), done.stderr


def test_input_and_output_are_there(url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(25)
    run(monkeypatch, bench, url)
    Objects(url).upload("rows.jsonl", bench.source, None)
    requests = fetch(bench.standin.url, "totals")["requests"]
    call = [f"{url}/rows.jsonl", "--set", "name=bench", "--prompt", "Say {{ text }}", "--out", f"{url}/run"]
    call += ["--model", "m", "--base-url", bench.standin.url, "--set", "provider.api_key_env="]
    for _ in range(2):
        assert called(monkeypatch, "run", *call).returncode == 0
    assert fetch(bench.standin.url, "totals")["requests"] == requests + 25
    assert called(monkeypatch, "resume", f"{url}/run").returncode == 0
    call[0] = f"{url}/run/data/*.parquet"
    refused(called(monkeypatch, "run", *call), "lies in the run's own folder")


def test_the_same_results_as_on_a_disk(url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(25)
    run(monkeypatch, bench, url, "--set", "name=same")
    with read_copy(url) as folder:
        from batchmix.engine import reader

        list(reader.results(folder, ["raw"]))  # fetches the parts
        there = results(folder)
    call = command(bench.standin.url, bench.source, bench.out, "--set", "name=same", "--set", "output.shard_rows=10")
    assert called(monkeypatch, *call[3:]).returncode == 0
    assert there.equals(results(bench.out))


@pytest.mark.slow
def test_on_azure(tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> None:
    with azure_storage(pytestconfig) as env:
        for name, value in (env | {"XDG_CACHE_HOME": str(tmp_path / "cache")}).items():
            monkeypatch.setenv(name, value)
        url = f"az://{BUCKET}/run"
        bench.write(25)
        run(monkeypatch, bench, url)
        assert "25 of 25" in called(monkeypatch, "status", url).stdout
        lock = RemoteLock(Objects(url))
        lock.take()
        with pytest.raises(RunLocked):
            RemoteLock(Objects(url)).take()
        lock.release()
        bench.write(5, 25)
        run(monkeypatch, bench, url)
        assert fetch(bench.standin.url, "totals")["requests"] == 30


def test_a_run_is_published_there_in_one_step(url: str, bench: Bench) -> None:
    bench.settings["output"] |= {"path": str(bench.root / "runs" / "{date}"), "publish": f"{url}/latest"}
    bench.write(15)
    objects = Objects(f"{url}/latest")

    def run_night(day: int) -> Manifest:
        job = read_job(None, bench.settings, {}, scheduled=datetime.date(2026, 11, day))
        run_job(job, Secrets(""), Options(), RunStatus())
        manifest = decoded_manifest(objects.get("manifest.json")[0])
        for part in manifest.parts:
            data = objects.get(part.file)[0]
            assert pq.read_table(pa.BufferReader(data))["night"].unique().to_pylist() == [manifest.night]
        return manifest

    assert run_night(25).night == datetime.date(2026, 11, 25)
    assert run_night(26).night == datetime.date(2026, 11, 26)
    assert run_night(24).night == datetime.date(2026, 11, 26)  # an earlier night replaces nothing
    assert run_night(27).night == datetime.date(2026, 11, 27)
    assert len({key.split("/")[1] for key in keys(f"{url}/latest") if "/" in key}) == 2  # and the one before
    objects.put("manifest.json", b"mine", ANY)
    bench.settings["output"]["path"] = str(bench.root / "other")
    with pytest.raises(JobError, match="batchmix did not write it"):
        bench.run()
    assert not (bench.root / "other").exists()


def test_a_mark_that_went_before_a_kill_goes_there_too(url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(5)
    with monkeypatch.context() as patch:
        patch.setattr("batchmix.store.working_copy._remove", lambda *_: None)
        run(monkeypatch, bench, url)
    assert "_SUCCESS" in keys(url)
    (mark,) = (bench.root / "cache").rglob("_SUCCESS")
    mark.unlink()  # as after a kill right after this
    bench.write(5, 5)
    bench.standin.behave("latency=0.05")
    call = command(bench.standin.url, bench.source, Path("OUT"), "--set", "timeouts.job_s=0.01")[3:]
    call[call.index("OUT")] = url
    assert called(monkeypatch, *call, "--set", "output.shard_rows=10").returncode == 3
    assert "_SUCCESS" not in keys(url)


def test_the_message_about_a_scheduled_run_has_its_figures(
    url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(5)
    run(monkeypatch, bench, url)
    assert called(monkeypatch, "report", url).returncode == 0
    due = datetime.datetime(2026, 11, 28, 2, 30, tzinfo=datetime.UTC)
    message = message_of("night", ScheduledRun(due.date(), due, url, due, exit_code=0, ended_at=due))
    assert (message["ok"], message["folder"], message["report"]) == (5, url, f"{url}/report.html")
    gone = message_of("night", ScheduledRun(due.date(), due, f"{url}-gone", due, exit_code=3, ended_at=due))
    assert (gone["passed"], gone["report"]) == (False, None)


CHAIN = """
name = "chain"
model = "m"
[input]
path = "rows.jsonl"
[provider]
base_url = "{url}"
api_key_env = ""
[output]
path = "{out}"
shard_rows = 20
[[steps]]
name = "draft"
prompt = "Write {{{{ text }}}}"
[[steps]]
name = "final"
prompt = "Improve {{{{ draft }}}} of {{{{ text }}}}"
"""


def test_a_chain_is_killed_and_gone_on_with_on_an_empty_disk(
    url: str, tmp_path: Path, standin: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "rows.jsonl", 60)
    (tmp_path / "job.toml").write_text(CHAIN.format(url=standin.url, out=url))
    standin.behave("latency=0.03")
    call = ["run", str(tmp_path / "job.toml"), "--concurrency", "4", "--progress", "none"]
    environ = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache-0")}
    process = subprocess.Popen([sys.executable, "-m", "batchmix", *call], env=environ)
    wait_until(lambda: "draft/data/part-00000.parquet" in keys(url))
    process.kill()
    process.wait()
    done = called(monkeypatch, *call)
    assert done.returncode == 0, done.stderr
    assert f"{url}/final/data" in done.stdout
    done = called(monkeypatch, "status", url)
    assert (done.returncode, done.stdout.count("60 of 60")) == (0, 2), done.stdout + done.stderr
    requests = fetch(standin.url, "totals")["requests"]
    (tmp_path / "job.toml").unlink()
    assert called(monkeypatch, "resume", url).returncode == 0
    assert fetch(standin.url, "totals")["requests"] == requests
    with read_copy(f"{url}/final") as folder:
        from batchmix.engine import reader

        assert sum(batch.num_rows for batch in reader.results(folder, ["row"])) == 60
    first = [record["prompt"] for record in fetch(standin.url, "ledger")]
    shard = [prompt for prompt in first if prompt.startswith("Write") and int(prompt.rsplit(" ", 1)[1]) < 20]
    assert len(set(shard)) == len(shard)  # that part was there


def test_a_run_there_is_no_input_and_the_message_says_what_to_do(
    url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(5)
    run(monkeypatch, bench, url)
    refused(called(monkeypatch, "run", url, "--model", "m", "--base-url", "rehearsal:"), f"{url}/data/*.parquet")


def test_an_evaluated_run_is_compared_with_the_last_one_there(
    url: str, evaluated: EvalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated.settings["eval"]["against"] = "previous"
    evaluated.settings["output"]["path"] = url + "/{date}"
    (evaluated.root / "job.toml").write_text(tomli_w.dumps(evaluated.settings))
    compared: list[str] = []
    for night in ("2026-11-25", "2026-11-26"):
        evaluated.write_said([{"said": f"a {number}", "answer": "a" if number else "b"} for number in range(10)])
        call = ("run", str(evaluated.root / "job.toml"), "--date", night, "--progress", "none", "--json")
        done = called(monkeypatch, *call)
        assert done.returncode == 0, done.stderr
        verdict = json.loads(Objects(f"{url}/{night}").get("evaluation/verdict.json")[0])
        compared.append(verdict["baseline"]["run"])
    assert compared == ["", "2026-11-25"]
    assert not [key for key in keys(f"{url}/2026-11-26") if "2026" in key]
    done = called(monkeypatch, "eval", f"{url}/2026-11-26", "--json")
    assert json.loads(done.stdout)["baseline"]["run"] == "2026-11-25", done.stderr
