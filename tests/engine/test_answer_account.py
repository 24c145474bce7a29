"""What `summary.json` says of checked answers is exact, however often a run was stopped or killed, and sealed again."""

from __future__ import annotations

import contextlib
import json
import signal
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Self

import pyarrow.parquet as pq
import pytest

from batchmix.cli.summary import state_lines
from batchmix.engine import reader
from batchmix.engine.run_status import LaneStatus
from batchmix.errors import BatchmixError
from batchmix.formats.amounts import usd
from batchmix.reports.report_page import write_report
from batchmix.store.answer_totals import OTHER_PATHS, AnswerTotals, Fared
from batchmix.store.shard import Shard
from tests import killing, odd_provider
from tests.conftest import Bench
from tests.wire import reply

ROWS = 36
_OF_THE_SCHEMA = (b"batchmix.schema", b"batchmix.job", b"batchmix.version")
SCHEMA = {
    "type": "object",
    "properties": {"moods": {"type": "array", "items": {"enum": ["good", "bad"]}}, "score": {"type": "integer"}},
    "required": ["moods", "score"],
}
GOOD = '{"moods": ["good"], "score": 3}'
FENCED = f"```json\n{GOOD}\n```"
WRONG_MOOD = '{"moods": ["good", "great"], "score": 3}'
WRONG_SCORE = '{"moods": [], "score": "3"}'
CUT_OFF = '{"moods": ["goo'
PATHS = {WRONG_MOOD: "/moods/*", WRONG_SCORE: "/score", CUT_OFF: ""}
CHAINS = (
    (GOOD,),
    (FENCED,),
    (WRONG_MOOD, GOOD),
    (WRONG_MOOD, WRONG_SCORE, FENCED),
    (WRONG_SCORE, WRONG_MOOD, WRONG_SCORE),
    (CUT_OFF, WRONG_MOOD, GOOD),
)
"""The answers that rows get one after another. A row whose last answer is invalid gets them again if it is sent again."""


class Answers:
    """Answers each row by its chain, and adds up by hand what was answered."""

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self.given: Counter[int] = Counter()
        self.left = 10**9
        """How many answers are left until the key is refused."""

    def __call__(self, row: int, attempt: int, nth: int) -> bytes:
        if self.left <= 0:
            return reply(401, b'{"error":{"message":"key"}}')
        self.left -= 1
        chain = CHAINS[row % len(CHAINS)]
        number = self.given[row]
        self.given[row] += 1
        text = chain[number % len(chain)]
        prompt, completion = self.usage(row, number)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "length" if text == CUT_OFF else "stop",
        }
        return reply(200, json.dumps({"id": "x", "model": "m", "choices": [choice], "usage": usage}).encode())

    def stop_after(self, number: int) -> Self:
        self.left = number
        return self

    @staticmethod
    def usage(row: int, number: int) -> tuple[int, int]:
        return 100 + 3 * row, 10 + 7 * number

    def expected(self) -> dict[str, Any]:
        """Return what the account must be after the answers given so far."""
        account: dict[str, Any] = dict.fromkeys(("valid", "healed", "repaired", "lost", "repairs"), 0)
        usd, lost, invalid = 0.0, Counter[str](), Counter[str]()
        for row, given in self.given.items():
            chain = CHAINS[row % len(CHAINS)]
            for number in range(given):
                text = chain[number % len(chain)]
                invalid.update([PATHS[text]] if text in PATHS else [])
                if number % len(chain):
                    prompt, completion = self.usage(row, number)
                    account["repairs"] += 1
                    usd += (prompt * 1.0 + completion * 2.0) / 1e6
            if given >= len(chain):  # a row that failed before is failed until its next answer is valid
                is_lost = chain[-1] in PATHS
                plain = "healed" if chain[-1] == FENCED else "valid"
                account["lost" if is_lost else "repaired" if len(chain) > 1 else plain] += 1
                lost.update([PATHS[chain[-1]]] if is_lost else [])
        models = account | {
            "lost_paths": dict(lost),
            "invalid_paths": dict(invalid),
            "repairs_usd": pytest.approx(usd, abs=1e-12),
        }
        return models | {"models": {"m": models} if self.given else {}}


class Page(HTMLParser):
    """Collects the texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] if data.strip() else []


@pytest.fixture(params=["fail", "keep"])
def answers(request: pytest.FixtureRequest, bench: Bench, provider: odd_provider.Provider) -> Answers:
    bench.settings |= {
        "answer": {"schema": SCHEMA, "repair": 2, "on_invalid": request.param, "send": "prompt"},
        "params": {"max_tokens": 50},
        "input": {"path": str(bench.source), "prompt": "row {{ n }} {{ text }}"},
        "prices": {"m": {"input": 1.0, "output": 2.0}},
    }
    bench.write(ROWS)
    found = Answers(keep=request.param == "keep")
    provider.answer = found
    return found


def test_each_answer_is_in_the_account(bench: Bench, answers: Answers) -> None:
    account = bench.run().summary()["answers"]
    assert account == answers.expected()
    assert (account["valid"], account["healed"], account["repaired"], account["lost"]) == (6, 6, 18, 6)
    rows = bench.rows()
    assert Counter(row["repairs"] for row in rows) == {0: 12, 1: 6, 2: 18}
    paid = sum(answers.usage(row, n)[0] for row, given in answers.given.items() for n in range(given))
    paid += sum(2 * answers.usage(row, n)[1] for row, given in answers.given.items() for n in range(given))
    summary = json.loads((bench.out / "summary.json").read_text())
    assert summary["cost_usd"] + summary["billed_retries_usd"] == pytest.approx(paid / 1e6, abs=1e-12)


@pytest.mark.parametrize("between", [1, 3, 8, 21])
def test_the_account_is_exact_after_each_of_many_starts(bench: Bench, answers: Answers, between: int) -> None:
    for _ in range(15):
        answers.stop_after(between)
        with contextlib.suppress(BatchmixError):
            bench.run()
        account = json.loads((bench.out / "summary.json").read_text())["answers"]
        # A lost row that is sent again, and refused because of the key, is lost for that reason until its next answer.
        assert without_lost(account) == without_lost(answers.expected())
        assert answers.keep <= (account["lost"] == answers.expected()["lost"])
    answers.stop_after(10**9)
    view = bench.run()
    assert view.summary()["answers"] == answers.expected()
    assert view.totals.ok + view.totals.failed == ROWS


def without_lost(account: dict[str, Any]) -> dict[str, Any]:
    models = {model: without_lost(of_model) for model, of_model in account.get("models", {}).items()}
    return {name: value for name, value in account.items() if not name.startswith("lost")} | {"models": models}


def test_the_account_is_exact_if_parts_are_sealed_again_after_a_kill(
    bench: Bench, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = Shard.remove_journals

    def killed(self: Shard) -> None:  # a kill after the part was written
        raise BatchmixError("killed")

    monkeypatch.setattr(Shard, "remove_journals", killed)
    with pytest.raises(BatchmixError):
        bench.run()
    monkeypatch.setattr(Shard, "remove_journals", remove)
    view = bench.run()
    assert view.summary()["answers"] == answers.expected()
    assert Counter(row["repairs"] for row in bench.rows()) == {0: 12, 1: 6, 2: 18}


def test_the_counts_while_a_run_goes_on_are_those_of_its_account(
    bench: Bench, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    live: list[dict[str, int]] = []

    def settle(self: LaneStatus, *given: Any) -> None:  # which replaces the counts by those of the account
        assert self.checked is not None
        live.append({fared.value: getattr(self.checked, fared) for fared in Fared})
        settled(self, *given)

    settled = LaneStatus.settle
    monkeypatch.setattr(LaneStatus, "settle", settle)
    for number in (5, 17, 40, 10**9, 10**9):  # the last two find sealed parts, and rows to send again if they failed
        answers.stop_after(number)
        with contextlib.suppress(BatchmixError):
            bench.run()
        account = json.loads((bench.out / "summary.json").read_text())["answers"]
        finished = {fared.value: account[fared] for fared in Fared}
        if number < 10**9:  # failed rows of earlier starts were not all read again
            finished["lost"] = live[-1]["lost"]
        assert live[-1] == finished
        for lane in bench.run_status.lanes:
            assert {name.value: getattr(lane.checked, name) for name in Fared} == {
                name: account[name] for name in Fared
            }
    assert sum(live[-1].values()) == ROWS


def test_status_and_the_report_say_how_answers_fared(bench: Bench, answers: Answers) -> None:
    view = bench.run()
    shown = "\n".join(state_lines(view))
    cost = view.summary()["answers"]["repairs_usd"]
    for line in (
        "checked      6 valid at once, 6 healed, 18 repaired, 6 lost",
        "18 answers invalid at /score, 6 rows lost",
        "6 answers invalid at the whole answer",
        f"repairs      42 answers to requests that repair others: {usd(cost)}, which is included above",
    ):
        assert line in shown
    texts = "|".join(Page(write_report(bench.out, None).read_text()).texts)
    assert f"|m|6|6|18|6|42|{usd(cost)}|" in texts
    assert "|/moods/*|24|0|" in texts


def test_a_path_that_an_answer_made_up_is_shown_as_text(bench: Bench, provider: odd_provider.Provider) -> None:
    key = "<script>alert(1)</script>\x1b[31m"
    bench.settings |= {
        "answer": {"schema": {"type": "object", "additionalProperties": {"type": "integer"}}, "repair": 0},
        "input": {"path": str(bench.source), "prompt": "row {{ n }} {{ text }}"},
    }
    bench.write(1)
    text = json.dumps({key: "x"})
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = json.dumps({"id": "x", "model": "m", "choices": [choice], "usage": {}}).encode()
    provider.answer = lambda row, attempt, nth: reply(200, body)
    view = bench.run()
    assert "\x1b" not in "\n".join(state_lines(view))
    page = write_report(bench.out, None).read_text()
    assert "<script" not in page
    assert "\x1b" not in page
    assert any("<script>alert(1)<" in text for text in Page(page).texts)


def test_a_part_without_such_an_account_is_counted_once_it_is_written_again(bench: Bench, answers: Answers) -> None:
    """What no row holds, its earlier invalid answers, is not known any more."""
    whole = bench.run().summary()["answers"]
    part = bench.out / "data" / "part-00000.parquet"
    table, metadata = pq.read_table(part), pq.read_metadata(part).metadata
    footer = json.loads(metadata[b"batchmix.part"])
    without = footer["totals"].pop("answers")["m"]
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if key in _OF_THE_SCHEMA}
    with pq.ParquetWriter(part, table.schema.with_metadata(kept)) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({b"batchmix.part": json.dumps(footer).encode()})
    (bench.out / "ledger.jsonl").unlink()
    names = ("valid", "healed", "repaired", "lost")
    account = reader.look(bench.out).summary()["answers"]
    assert {name: account[name] for name in names} == {name: whole[name] - without.get(name, 0) for name in names}
    bench.settings["input"]["columns"] = ["n"]
    answers.given.clear()
    account = bench.run(update=True).summary()["answers"]
    assert {name: account[name] for name in names} == {name: whole[name] for name in names}
    invalid, missing = sum(account["invalid_paths"].values()), sum(without["invalid_paths"].values())
    again = sum(answers.given.values())  # the failed rows were sent again
    assert invalid == sum(whole["invalid_paths"].values()) - missing + again


def test_a_job_without_a_schema_has_no_such_account(bench: Bench) -> None:
    bench.write(2)
    assert "answers" not in bench.run().summary()


def test_only_some_paths_are_counted_by_themselves() -> None:
    totals, whole = AnswerTotals(), AnswerTotals()
    for number in range(200):
        totals.add_invalid(f"/items/{number}/key {number}")
    totals.add_invalid("/items/7/key 7")
    whole.add(totals)
    whole.add(totals)
    assert whole.invalid_paths["/items/*/key 7"] == 4
    assert whole.invalid_paths[OTHER_PATHS] == 2 * (200 - (len(whole.invalid_paths) - 1))
    assert sum(whole.invalid_paths.values()) == 402


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_account_is_exact_after_kills(tmp_path: Path, number: int) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"type": "object", "properties": {"mood": {"enum": ["good"]}}, "required": ["mood"]}))
    settings = {
        "answer.schema": schema, "answer.on_invalid": "keep", "answer.repair": 2, "output.shard_rows": 25,
        "prices.m": "{input = 1, output = 2}",
    }  # fmt: skip
    pairs = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    killing.write_rows(tmp_path / "rows.jsonl", 100)
    out = tmp_path / "out"
    with killing.provider("latency=0.05-0.2&fenced=0.2&wrong_enum=0.4&max_faults=100") as url:
        call = killing.command(url, tmp_path / "rows.jsonl", out, "--concurrency", "20", *pairs)
        outcome = killing.kill_after(call, url, out, (60, 120), number)
        account = killing.fetch(url, "account")
    assert (outcome.repeated, outcome.unnamed) == ([], [])
    if number == signal.SIGINT:
        assert (account["again"], account["retries"]) == (0, 0)
    rows = pq.read_table(out / "data").to_pylist()
    lost = [row for row in rows if row["error_type"] == "schema"]
    valid = [row for row in rows if row["error_type"] is None]
    summary = json.loads((out / "summary.json").read_text())
    account = summary["answers"]
    repairs = sum(row["repairs"] for row in rows)
    assert account["lost"] == len(lost) == sum(account["lost_paths"].values()) > 0
    assert account["repaired"] == sum(row["repairs"] > 0 for row in valid)
    assert account["healed"] == sum(row["healed"] and not row["repairs"] for row in valid)
    assert account["valid"] == len(rows) - account["lost"] - account["repaired"] - account["healed"]
    assert account["repairs"] == summary["billed_retries"] == repairs
    assert account["invalid_paths"] == {"/mood": repairs + len(lost)}
    # What was paid for beside the first answers of all rows is what repairs cost; each first answer that is in no row
    # is one of the billed retries.
    at_once = sum(row["cost_usd"] for row in rows if not row["repairs"])
    paid = summary["cost_usd"] + summary["billed_retries_usd"]
    assert 0 < account["repairs_usd"] < paid - at_once
