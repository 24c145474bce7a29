"""No paid answer is requested again unnoticed: a start first reports the answers that are missing."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from batchmix.cli import cli
from batchmix.engine import reader
from batchmix.engine.resume import drop_stale
from batchmix.errors import BatchmixError, DiskError, FailureAction, JobError, PartDamaged, ProviderStopped, RunError
from batchmix.records import CLASSIFIER_VERSION, Completion, Exchange, Failure
from batchmix.responses import classify
from batchmix.store.run_folder import Layout
from batchmix.store.schema import Seal
from tests.conftest import Bench
from tests.damaging import damage_page, flip
from tests.odd_provider import Provider
from tests.wire import GOOD, error, reply


@pytest.fixture
def run(bench: Bench) -> Bench:
    """A finished run of three shards."""
    bench.write(25)
    bench.run()
    return bench


def interrupted(bench: Bench, rows: int = 25) -> None:
    """Leave a run with answers in its journals, as a canary does."""
    bench.write(rows)
    bench.run(canary=12)


def part(bench: Bench, shard: int) -> Path:
    return bench.out / "data" / f"part-{shard:05}.parquet"


def journals(bench: Bench) -> list[Path]:
    return sorted((bench.out / "journal").iterdir())


def answered(bench: Bench) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in bench.out.glob("*/*") if path.suffix in {".parquet", ".jsonl"}}


def ids(bench: Bench) -> list[str]:
    return [row["custom_id"] for row in bench.rows()]


def refused(bench: Bench, *texts: str, **options: Any) -> str:
    """Check that a start is refused, with these texts, before anything is sent; return the message."""
    sent = bench.standin.request_count()
    with pytest.raises(RunError) as found:
        bench.run(**options)
    assert bench.standin.request_count() == sent
    for word in texts:
        assert word in str(found.value)
    return str(found.value)


def swap(one: Path, other: Path) -> None:
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


LOSSES: dict[str, tuple[Callable[[Bench], object], int, list[str]]] = {
    "a part is deleted": (lambda b: part(b, 1).unlink(), 10, ["part-00001.parquet: is missing"]),
    "all parts are deleted": (lambda b: shutil.rmtree(b.out / "data"), 25, ["part-00002.parquet: is missing"]),
    "two parts are swapped": (lambda b: swap(part(b, 0), part(b, 2)), 15, ["part-00000.parquet: holds the rows of shard 2"]),
    "a part is copied over another": (lambda b: shutil.copy(part(b, 0), part(b, 1)), 10, ["holds the rows of shard 0"]),
    "a part is cut": (lambda b: part(b, 1).write_bytes(part(b, 1).read_bytes()[:-9]), 10, ["part-00001.parquet: is damaged"]),
    "a part is emptied": (lambda b: part(b, 1).write_bytes(b""), 10, ["part-00001.parquet: is damaged"]),
    "a footer is damaged": (lambda b: flip(part(b, 1), -100), 10, ["part-00001.parquet: is damaged"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_missing_answers_are_requested_again_only_with_update(name: str, run: Bench) -> None:
    lose, count, texts = LOSSES[name]
    lose(run)
    before = run.standin.request_count()
    refused(run, f"{count} answers that were there are missing", "--update", "--out", *texts)
    view = run.run(update=True)
    assert view.totals.ok == 25
    assert run.standin.request_count() == before + count
    assert ids(run) == [f"r{number}" for number in range(25)]
    run.run()
    assert run.standin.request_count() == before + count


def test_an_older_part_with_fewer_answers_is_detected(bench: Bench) -> None:
    bench.write(8)
    bench.settings["retry"] = {"attempts": 1}
    bench.standin.behave("500=0.5&max_faults=1&seed=5")
    first = bench.run().totals.ok
    assert 0 < first < 8
    older = part(bench, 0).read_bytes()
    bench.standin.behave()
    assert bench.run().totals.ok == 8
    part(bench, 0).write_bytes(older)
    refused(bench, f"{8 - first} answers that were there are missing", "is not the one that was finished last")
    assert bench.run(update=True).totals.ok == 8


def test_a_part_that_differs_from_the_ledgers_last_line_is_verified(run: Bench) -> None:
    """As after a kill between the ledger's line for the next part and the rename of its file."""
    ledger = Layout(run.out).ledger
    last = ledger.read()[0].sealed
    assert last is not None
    ledger.append(msgspec.structs.replace(last, seal=Seal(1, 2)))
    assert run.run().totals.ok == 25  # no answer is missing
    ledger.append(msgspec.structs.replace(last, seal=Seal(1, 2)))
    damage_page(part(run, 0), "raw")
    refused(run, "10 answers that were there are missing", "part-00000.parquet: is damaged")


def test_a_part_with_another_modification_time_is_verified_once(run: Bench, tmp_path: Path) -> None:
    """A copy that did not keep the times is verified, and the ledger records that."""
    for path in sorted((run.out / "data").iterdir()):
        os.utime(path)
    assert run.run().totals.ok == 25
    ledger = (run.out / "ledger.jsonl").read_bytes()
    assert run.run().totals.ok == 25
    assert (run.out / "ledger.jsonl").read_bytes() == ledger
    damage_page(part(run, 1), "raw")
    assert call("status", str(run.out))[0] == 0  # status does not verify pages
    os.utime(part(run, 1))
    code, output = call("status", str(run.out))
    assert (code, "part-00001.parquet: is damaged, 10 of its 10 rows can't be read" in output) == (1, True)
    refused(run, "10 answers that were there are missing: ", "part-00001.parquet: is damaged")
    sent = run.standin.request_count()
    assert run.run(update=True).totals.ok == 25
    assert run.standin.request_count() == sent + 10


def test_a_part_of_another_run_with_the_same_name_is_detected(run: Bench, tmp_path: Path) -> None:
    mine = run.out
    run.settings["output"] = {"path": str(tmp_path / "other"), "shard_rows": 10}
    run.write(25, text="another {}")
    run.run()
    shutil.copy(tmp_path / "other" / "data" / part(run, 1).name, part(run, 1))
    run.settings["output"] = {"path": str(mine), "shard_rows": 10}
    run.write(25)
    refused(run, "10 answers that were there are missing", "is not the one that was finished last")
    assert run.run(update=True).totals.ok == 25


JOURNAL_LOSSES: dict[str, Callable[[Bench], object]] = {
    "deleted": lambda b: [path.unlink() for path in journals(b)],
    "emptied": lambda b: [path.write_bytes(b"") for path in journals(b)],
    "cut at the end": lambda b: [path.write_bytes(path.read_bytes()[:-30]) for path in journals(b)[:1]],
    "a bit flipped in an answer": lambda b: flip(journals(b)[0], journals(b)[0].read_bytes().rindex(b"chatcmpl")),
    "copied over another": lambda b: shutil.copy(journals(b)[0], journals(b)[1]),
}  # fmt: skip


@pytest.mark.parametrize("how", JOURNAL_LOSSES)
def test_answers_missing_from_journals_are_requested_again_only_with_update(how: str, bench: Bench) -> None:
    interrupted(bench)
    assert len(journals(bench)) > 1
    JOURNAL_LOSSES[how](bench)
    refused(bench, "missing: ", "journal/", "--update")
    bench.run(update=True, canary=1)  # the loss is accepted, but the run is not finished
    bench.run()
    assert ids(bench) == [f"r{number}" for number in range(25)]


def test_losses_after_a_kill_are_reported_as_an_upper_bound(bench: Bench) -> None:
    """The ledger has no line of the start's end, but still lists the journals."""
    interrupted(bench)
    ledger = bench.out / "ledger.jsonl"
    ledger.write_bytes(b"".join(line for line in ledger.read_bytes().splitlines(True) if b"answers" not in line))
    kept = [path.read_bytes() for path in journals(bench)]
    path = journals(bench)[0]
    flip(path, path.read_bytes().index(b"chatcmpl"))
    refused(bench, "up to 1 answer that was there is missing", path.name)
    path.write_bytes(kept[0])
    path.unlink()
    refused(bench, "up to 10 answers", "is missing")
    path.write_bytes(kept[0])
    assert bench.run().totals.ok == 25


@pytest.mark.parametrize("end", ["killed", "finished"])
def test_a_flipped_last_line_of_a_journal_counts_as_damage_and_a_torn_tail_does_not(end: str, bench: Bench) -> None:
    interrupted(bench)
    path = next(path for path in journals(bench) if b'"heard"' in path.read_bytes().splitlines()[-1])
    ledger = bench.out / "ledger.jsonl"
    if end == "killed":
        ledger.write_bytes(b"".join(line for line in ledger.read_bytes().splitlines(True) if b"answers" not in line))
    kept = path.read_bytes()
    flip(path, kept.rindex(b"chatcmpl"))
    refused(bench, "1 answer that was there is missing", path.name)
    assert call("status", str(bench.out))[1].count("are damaged") == 1
    path.write_bytes(kept[:-30])  # a torn line, as a kill leaves it
    if end == "killed":
        assert bench.run().totals.ok == 25
    else:
        refused(bench, "missing")


def test_a_damaged_page_is_found_when_it_is_read(run: Bench) -> None:
    damage_page(part(run, 1), "raw")
    sent = run.standin.request_count()
    assert run.run().totals.ok == 25  # no row of it is read
    run.write(1, first=25)
    run.run()
    run.settings["input"]["columns"] = ["n"]
    with pytest.raises(RunError, match="carried columns"):
        run.run()
    view = run.run(update=True)
    assert view.totals.ok == 26
    assert run.standin.request_count() == sent + 1 + 10
    assert ids(run) == [f"r{number}" for number in range(26)]


def test_a_damaged_part_that_must_be_rewritten_stops_the_run_until_update(bench: Bench) -> None:
    bench.write(8)
    bench.settings["retry"] = {"attempts": 1}
    bench.standin.behave("500=0.5&max_faults=1&seed=5")
    bench.run()
    damage_page(part(bench, 0), "n")
    bench.standin.behave()
    sent = bench.standin.request_count()
    with pytest.raises(PartDamaged, match=r"part-00000\.parquet: is damaged, 8 of its 8 rows"):
        bench.run()
    assert bench.standin.request_count() == sent
    assert bench.run(update=True).totals.ok == 8
    assert bench.standin.request_count() == sent + 8


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "another job": ({"name": "other"}, "belongs to another job, 'bench'"),
    "a rehearsal": ({"provider": {"base_url": "rehearsal:?latency=0"}}, "filled by a real provider"),
}


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda _: b"",
    "changed": lambda text: text.replace(b'"rehearsal": false', b'"rehearsal": true'),
}


@pytest.mark.parametrize("damage", ["missing", *DAMAGES])
@pytest.mark.parametrize("left", ["parts", "journals"])
def test_the_guards_work_without_a_usable_run_json(damage: str, left: str, bench: Bench) -> None:
    if left == "parts":
        bench.write(25)
        bench.run()
    else:
        interrupted(bench)
    path = bench.out / "run.json"
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(DAMAGES[damage](whole))
    kept = answered(bench)
    mine = dict(bench.settings)
    for settings, texts in OTHERS.values():
        bench.settings = mine | settings
        refused(bench, texts)
        refused(bench, texts, update=True)
    bench.settings = mine | {"input": mine["input"] | {"prompt": "Tell {{ text }}"}}
    refused(bench, "request ", " existing answers again")
    assert answered(bench) == kept
    bench.settings = mine
    assert bench.run().totals.ok == 25
    assert bench.standin.request_count() == 25
    assert json.loads(path.read_bytes())["name"] == "bench"


def test_shards_keep_their_size_without_a_run_json(run: Bench) -> None:
    (run.out / "run.json").unlink()
    run.settings["output"] = {"path": str(run.out), "shard_rows": 7}
    sent = run.standin.request_count()
    assert run.run().totals.ok == 25
    assert run.standin.request_count() == sent


def test_a_folder_without_a_ledger_is_checked_against_its_summary(run: Bench) -> None:
    (run.out / "ledger.jsonl").unlink()
    kept = part(run, 1).read_bytes()
    part(run, 1).unlink()
    refused(
        run,
        "10 answers that were there are missing",
        "summary.json counts 25 answers, and 15 are there",
        "00001.parquet",
    )
    part(run, 1).write_bytes(kept)
    sent = run.standin.request_count()
    assert run.run().totals.ok == 25
    assert run.standin.request_count() == sent
    part(run, 1).unlink()  # the ledger lists it by now
    refused(run, "part-00001.parquet: is missing")


def test_a_run_folder_that_was_packed_and_moved_can_be_resumed(bench: Bench, tmp_path: Path) -> None:
    interrupted(bench)
    archive = shutil.make_archive(str(tmp_path / "packed"), "tar", bench.out)
    shutil.rmtree(bench.out)
    bench.out = tmp_path / "moved"
    bench.settings["output"] = {"path": str(bench.out), "shard_rows": 10}
    shutil.unpack_archive(archive, bench.out)
    assert bench.run().totals.ok == 25
    assert bench.standin.request_count() == 25


def test_a_damaged_ledger_does_not_stop_a_run_with_all_its_answers(run: Bench) -> None:
    for damage in (lambda data: data[: len(data) // 2], lambda data: b"\0" + data[1:], lambda _: b""):
        ledger = run.out / "ledger.jsonl"
        ledger.write_bytes(damage(ledger.read_bytes()))
        assert run.run().totals.ok == 25
    part(run, 2).unlink()
    refused(run, "5 answers that were there are missing")


def test_a_damaged_line_of_the_ledger_is_reported_and_the_summary_used_instead(
    run: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = run.out / "ledger.jsonl"
    for what in (b'"left","shard":1', b'"sealed","shard":1'):
        flip(ledger, ledger.read_bytes().index(what))
    kept = part(run, 1).read_bytes()
    part(run, 1).unlink()
    refused(
        run, "10 answers that were there are missing", "summary.json counts 25 answers", "00001.parquet: is missing"
    )
    assert "ledger.jsonl: 2 of its lines are damaged" in caplog.text
    part(run, 1).write_bytes(kept)
    assert run.run().totals.ok == 25
    for summary in ('{"ok": null}', '{"ok": "25"}', "[]", ""):
        (run.out / "summary.json").write_text(summary)
        assert run.run().totals.ok == 25


def call(*texts: str) -> tuple[int | None, str]:
    """Call a command in this process; return its exit code (None for an error) and its output."""
    with contextlib.chdir(Path(texts[1]).parent):
        done = CliRunner().invoke(cli, texts, standalone_mode=False)
    assert done.exception is None or isinstance(done.exception, BatchmixError), done.exception
    return done.return_value if done.exception is None else None, f"{done.output} {done.exception}"


def test_readers_report_unreadable_parts_and_return_the_rest(run: Bench) -> None:
    run.settings["eval"] = {"target": "n", "scorers": [{"kind": "includes"}]}
    run.run()
    call("eval", str(run.out))
    damage_page(part(run, 0), "raw")
    part(run, 1).write_bytes(part(run, 1).read_bytes()[:-9])
    part(run, 2).unlink()
    out, file = str(run.out), run.root / "all.jsonl"
    damaged, missing = "part-00001.parquet: is damaged", "part-00002.parquet: is missing"
    code, output = call("status", out)
    assert (code, damaged in output, missing in output) == (1, True, True)
    code, output = call("export", out, str(file))
    assert (code, "part-00000.parquet: is damaged, 10 of its 10" in output, damaged in output, missing in output) == (
        1,
        True,
        True,
        True,
    )
    assert file.read_text() == ""
    code, output = call("eval", out)
    assert (code, "scores of the rest would be misleading" in output) == (None, True)
    code, output = call("diff", out, out)
    assert (code, "a diff of the rest would be misleading" in output) == (None, True)
    run.run(update=True)
    part(run, 1).write_bytes(part(run, 0).read_bytes())
    code, output = call("export", out, str(file))
    assert (code, "part-00001.parquet: holds the rows of shard 0" in output) == (1, True)
    assert [json.loads(line)["row"] for line in file.read_text().splitlines()] == [*range(10), *range(20, 25)]
    code, output = call("report", out)
    assert (code, "part-00001.parquet: holds the rows of shard 0" in output) == (1, True)
    assert (run.out / "report.html").exists()


@pytest.mark.parametrize("where", ["view", "export_file"])
def test_a_reader_does_not_report_a_part_dropped_meanwhile_as_missing(
    where: str, run: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"batchmix.store.{where}")
    listed = module.list_parts

    def let_go(data: Path) -> Any:
        found = listed(data)
        drop_stale(Layout(run.out), [2])
        return found

    monkeypatch.setattr(module, "list_parts", let_go)
    lost: list[str] = []
    if where == "view":
        view = reader.look(run.out)
        assert (view.totals.ok, view.damage) == (20, [])
    else:
        assert reader.export(run.out, run.root / "all.jsonl", lost=lost) == (20, [])
    assert lost == []


def test_readers_return_all_answers_although_the_input_is_shorter_now(bench: Bench) -> None:
    """The journals of shards that the input no longer has are still read."""
    interrupted(bench)
    bench.write(3)
    code, output = call("export", str(bench.out), str(bench.root / "a.jsonl"))
    assert (code, "the input has changed" in output) == (0, True)
    assert len((bench.root / "a.jsonl").read_text().splitlines()) == bench.standin.request_count()
    assert call("report", str(bench.out))[0] == 0


NONSENSE: dict[str, Callable[[dict[str, Any]], object]] = {
    "carried columns that are no base64": lambda run: run.update(carried=run["carried"][1:]),
    "carried columns that are no schema": lambda run: run.update(carried="aGVsbG8="),
    "a scan of fewer files": lambda run: run["scan"].update(sizes=[]),
    "a start at no time": lambda run: run["starts"][0].update(at="2026-13-01T00:00:00Z"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_readers_survive_nonsense_in_a_run_json(name: str, bench: Bench) -> None:
    interrupted(bench)
    path = bench.out / "run.json"
    run = json.loads(path.read_bytes())
    NONSENSE[name](run)
    path.write_text(json.dumps(run))
    for texts in (("status",), ("export", str(bench.root / "a.jsonl")), ("report",)):
        code, output = call(texts[0], str(bench.out), *texts[1:])
        assert code == 0 or (code, "run.json: its schema of the carried columns can't be read" in output) == (
            None,
            True,
        ), output
    assert bench.run().totals.ok == 25


@pytest.mark.parametrize("damage", ["missing", *DAMAGES])
def test_readers_report_a_damaged_run_json_in_one_sentence(damage: str, run: Bench) -> None:
    run.settings["eval"] = {"target": "n", "scorers": [{"kind": "includes"}]}
    run.run()
    path = run.out / "run.json"
    whole = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(DAMAGES[damage](whole))
    for texts in (("status",), ("export",), ("eval",), ("report",)):
        code, output = call(*texts, str(run.out), *[str(run.root / "out.csv")] * (texts == ("export",)))
        if damage == "changed":
            assert code == 0
        else:
            assert code is None
            assert "run.json" in output
            assert "command" in output


def test_damaged_answers_of_another_run_are_not_reused(run: Bench, tmp_path: Path) -> None:
    damage_page(part(run, 1), "request_hash")
    run.settings |= {"reuse": {"from": [str(run.out)]}, "output": {"path": str(tmp_path / "next"), "shard_rows": 10}}
    sent = run.standin.request_count()
    with pytest.raises(JobError, match=r"reuse.from: .*part-00001\.parquet: is damaged"):
        run.run()
    assert run.standin.request_count() == sent


def test_a_rehearsal_is_refused_over_answers_of_unknown_origin(run: Bench) -> None:
    """Parts of earlier versions do not record whether they were rehearsed."""
    for path in (run.out / "data").iterdir():
        table, footer = pq.read_table(path), json.loads(pq.read_metadata(path).metadata[b"batchmix.part"])
        for name in ("rehearsal", "shard_rows", "job"):
            del footer[name]
        kept = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"batchmix.part"}
        with pq.ParquetWriter(path, table.schema.with_metadata(kept)) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({b"batchmix.part": json.dumps(footer).encode()})
    for name in ("ledger.jsonl", "run.json", "summary.json"):
        (run.out / name).unlink()
    sent = run.standin.request_count()
    mine = run.settings["provider"]
    run.settings["provider"] = {"base_url": "rehearsal:?latency=0"}
    refused(run, "does not say whether these answers were rehearsed")
    run.settings["provider"] = mine
    assert run.run().totals.ok == 25
    assert run.standin.request_count() == sent


def with_a_stricter_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Act as a later version, which accepts fewer bodies as answers."""

    def stricter(exchange: Exchange, path: str) -> Completion | Failure:
        if b"ROTTEN" in exchange.body:
            return Failure(FailureAction.RETRY, "bad_answer", "the answer is rotten", maybe_billed=True)
        return classified(exchange, path)

    classified = classify._outcome
    monkeypatch.setattr("batchmix.responses.classify._outcome", stricter)
    for place in ("missing_answers", "send"):
        monkeypatch.setattr(f"batchmix.engine.{place}.CLASSIFIER_VERSION", CLASSIFIER_VERSION + 1)


@pytest.mark.parametrize("killed", [False, True])
def test_answers_that_a_later_version_rejects_are_requested_again_only_with_update(
    killed: bool, bench: Bench, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in journals; sealed answers stay. After a kill there is no count of them."""

    def answer(row: int, attempt: int, nth: int) -> bytes:
        if row == 17 and attempt == 1:
            return reply(401, error("Invalid key"))
        content = "ROTTEN" if row in {3, 12, 14} and attempt == 1 else "good"
        return reply(200, {**GOOD, "choices": [{"message": {"content": content}, "finish_reason": "stop"}]})

    provider.answer = answer
    bench.settings["limits"] = {"concurrency": 1}
    bench.write(25, text="row {}")
    with pytest.raises(ProviderStopped):
        bench.run()
    ledger = bench.out / "ledger.jsonl"
    if killed:
        lines = ledger.read_bytes().splitlines(keepends=True)
        ledger.write_bytes(b"".join(line for line in lines if b'"e":"sealed"' in line or b'"answers"' not in line))
        (bench.out / "summary.json").unlink()
    with_a_stricter_classifier(monkeypatch)
    provider.rows_received.clear()
    count = "up to 2 answers that were there are" if killed else "2 answers that were there are"
    with pytest.raises(
        RunError, match=f"{count} missing: .*another version of batchmix.*Resume with the version.*--upd"
    ):
        bench.run()
    assert not provider.rows_received
    provider.answer = lambda row, attempt, nth: reply(401, error("Invalid key")) if row == 20 else answer(row, 2, nth)
    with pytest.raises(ProviderStopped):
        bench.run(update=True)
    provider.answer = answer
    assert bench.run().totals.ok == 25  # an accepted loss needs no --update again
    assert sorted(provider.rows_received) == sorted([12, 14, *range(17, 25), 20])
    assert [row["response"] for row in bench.rows()].count("ROTTEN") == 1


@pytest.mark.parametrize("name", ["data", "data/part-00001.parquet", "journal"])
def test_files_without_read_permission_do_not_count_as_missing(
    name: str, run: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not requested again, not even with --update, and commands report them."""
    closed = str(run.out / name)

    def denied(real: Callable[..., Any]) -> Callable[..., Any]:
        def opens(path: Any, *args: Any, **more: Any) -> Any:
            if str(path) == closed:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), closed)
            return real(path, *args, **more)

        return opens

    sent = run.standin.request_count()
    with monkeypatch.context() as patch:
        patch.setattr("os.listdir", denied(os.listdir))
        patch.setattr("pyarrow.OSFile", denied(pa.OSFile))
        for update in (False, True):
            with pytest.raises(DiskError, match="Permission denied"):
                run.run(update=update)
        if name != "data/part-00001.parquet":
            assert "Permission denied" in call("status", str(run.out))[1]
    assert run.standin.request_count() == sent
    assert run.run().totals.ok == 25


def test_an_export_names_a_journal_without_read_permission(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(bench)
    closed, opens = journals(bench)[0], os.open

    def denied(path: Any, *args: Any, **more: Any) -> int:
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opens(path, *args, **more)

    monkeypatch.setattr("os.open", denied)
    code, output = call("export", str(bench.out), str(bench.root / "a.jsonl"))
    assert (code, f"{closed.name}: can't be read" in output) == (None, True), output
    assert not (bench.root / "a.jsonl").exists()
