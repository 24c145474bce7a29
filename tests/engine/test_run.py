"""A job from end to end: what is sent, what is stored, and what the next start does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchmix.engine import reader
from batchmix.engine.folder_lock import locked_folder
from batchmix.errors import InputChanged, InputError, JobError, ProviderStopped, RunError, RunLocked
from batchmix.evaluation.judge import JudgeContext
from batchmix.job import read_job
from batchmix.redact import Secrets
from batchmix.reports.report_page import write_report
from batchmix.store.schema import RESULT_SCHEMA
from batchmix.verdict.evaluate_run import evaluate_run, prepare_scorers
from tests import odd_provider
from tests.conftest import Bench
from tests.killing import VARYING
from tests.wire import GOOD, reply


def test_each_row_becomes_one_row_in_order(bench: Bench) -> None:
    bench.write(25)
    bench.standin.behave("latency=0-0.03&seed=4")
    view = bench.run()
    rows = bench.rows()
    assert [row["row"] for row in rows] == list(range(25))
    assert [row["custom_id"] for row in rows] == [f"r{n}" for n in range(25)]
    assert {row["status"] for row in rows} == {"ok"}
    assert list(rows[0]) == [*RESULT_SCHEMA.names[:4], "text", "n", *RESULT_SCHEMA.names[4:]]
    assert all(row["total_tokens"] == row["prompt_tokens"] + row["completion_tokens"] for row in rows)
    assert view.totals.ok == 25
    assert view.unanswered == 0
    assert not list((bench.out / "journal").iterdir())
    assert json.loads((bench.out / "summary.json").read_text()) == view.summary()
    assert bench.start()["exit_code"] == 0


def test_repeating_the_command_sends_nothing(bench: Bench) -> None:
    bench.write(12)
    bench.run()
    before = [path.read_bytes() for path in sorted((bench.out / "data").iterdir())]
    bench.run()
    assert bench.standin.request_count() == 12
    assert [path.read_bytes() for path in sorted((bench.out / "data").iterdir())] == before


def test_transient_errors_are_retried_and_throttling_does_not_use_up_attempts(bench: Bench) -> None:
    bench.settings["retry"] = {"attempts": 3}
    bench.source.write_text(
        "\n".join(
            json.dumps({"text": text})
            for text in [
                "[[rehearsal:500x2]]",
                "[[rehearsal:dropx1]]",
                "[[rehearsal:cutx1]]",
                "[[rehearsal:429x3]]",
                "plain",
            ]
        )
    )
    bench.run()
    rows = bench.rows()
    assert [row["status"] for row in rows] == ["ok"] * 5
    assert [row["attempts"] for row in rows] == [3, 2, 2, 4, 1]
    assert [row["maybe_billed"] for row in rows] == [0, 1, 1, 0, 0]


def test_failed_rows_are_retried_by_the_next_start_and_rejected_ones_on_request(bench: Bench) -> None:
    bench.settings["retry"] = {"attempts": 1}
    texts = ["a", "[[rehearsal:500x1]]", "[[rehearsal:400x2]]", "b"]
    bench.source.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    bench.run()
    assert [row["status"] for row in bench.rows()] == ["ok", "failed", "rejected", "ok"]
    assert bench.rows()[1]["error_type"] == "server_error"
    assert bench.rows()[1]["http_status"] == 500
    assert "server had an error" in bench.rows()[1]["raw"]
    bench.run()
    assert [row["status"] for row in bench.rows()] == ["ok", "ok", "rejected", "ok"]
    assert bench.standin.request_count() == 5
    bench.run(retry_rejected=True)
    assert [row["status"] for row in bench.rows()] == ["ok", "ok", "rejected", "ok"]
    bench.run(retry_rejected=True)
    assert [row["status"] for row in bench.rows()] == ["ok"] * 4
    assert [row["attempts"] for row in bench.rows()] == [1, 2, 3, 1]
    assert bench.standin.request_count() == 7


def test_appended_rows_are_sent(bench: Bench) -> None:
    bench.write(7)
    bench.run()
    bench.write(10, first=7)
    bench.run()
    assert [row["custom_id"] for row in bench.rows()] == [f"r{n}" for n in range(17)]
    assert bench.standin.request_count() == 17


def test_a_limited_run_is_continued_without_the_limit(bench: Bench) -> None:
    bench.write(25)
    assert bench.run(limit=13).run.rows == 13
    assert bench.standin.request_count() == 13
    bench.run()
    assert [row["row"] for row in bench.rows()] == list(range(25))
    assert bench.standin.request_count() == 25
    with pytest.raises(RunError, match=r"drop 12 answers") as refused:
        bench.run(limit=13)
    assert "--limit 13 differs from before: this run has 25 rows" in str(refused.value)
    assert "changed" not in str(refused.value)
    assert len(bench.rows()) == 25
    bench.settings["params"] = {"temperature": 0}
    with pytest.raises(RunError, match="the job or its input has changed"):
        bench.run(limit=13)
    del bench.settings["params"]
    bench.run(limit=30)
    assert bench.standin.request_count() == 25
    bench.run(limit=13, update=True)
    assert len(bench.rows()) == 13


def test_a_changed_request_is_refused_with_the_count_until_update(bench: Bench) -> None:
    bench.write(15)
    bench.run()
    bench.settings["input"]["prompt"] = "Shout {{ text }}"
    with pytest.raises(RunError, match=r"request 15 existing answers again.*--update"):
        bench.run()
    assert bench.standin.request_count() == 15
    bench.run(update=True)
    assert bench.standin.request_count() == 30
    assert len(bench.rows()) == 15
    assert bench.standin.prompts()[15].startswith("Shout")


def test_only_changed_rows_are_sent_again(bench: Bench) -> None:
    bench.write(25)
    bench.run()
    lines = bench.source.read_text().splitlines()
    lines[3] = json.dumps({"id": "r3", "text": "another", "n": 3})
    bench.source.write_text("\n".join(lines))
    with pytest.raises(RunError, match=r"request 1 existing answer again"):
        bench.run()
    bench.run(update=True)
    assert bench.standin.request_count() == 26
    assert bench.rows()[3]["text"] == "another"
    assert [row["row"] for row in bench.rows()] == list(range(25))


def test_another_model_drops_answers_only_with_update(bench: Bench) -> None:
    bench.write(12)
    bench.run()
    bench.settings["model"] = "other"
    with pytest.raises(RunError, match=r"drop 12 answers"):
        bench.run()
    bench.run(update=True)
    assert {row["model"] for row in bench.rows()} == {"other"}
    assert bench.standin.request_count() == 24


def test_an_added_model_or_sample_is_sent(bench: Bench) -> None:
    bench.write(12)
    bench.run()
    del bench.settings["model"]
    bench.settings["models"] = [{"id": "second"}, {"id": "m"}]
    bench.settings["samples"] = 2
    bench.run()
    keys = [(row["row"], row["model"], row["sample"]) for row in bench.rows()]
    assert keys == [(row, model, sample) for row in range(12) for model in ("second", "m") for sample in (0, 1)]
    assert bench.standin.request_count() == 48


def test_a_shorter_input_drops_answers_only_with_update(bench: Bench) -> None:
    bench.write(25)
    bench.run()
    bench.write(8)
    with pytest.raises(RunError, match=r"drop 17 answers"):
        bench.run()
    bench.run(update=True)
    assert [row["row"] for row in bench.rows()] == list(range(8))
    assert len(list((bench.out / "data").iterdir())) == 1
    assert bench.standin.request_count() == 25


def test_changed_columns_rewrite_the_parts_and_send_nothing(bench: Bench) -> None:
    bench.write(15)
    bench.run()
    bench.settings["input"]["columns"] = [{"from": "n", "to": "number"}]
    with pytest.raises(RunError, match=r"carried columns"):
        bench.run()
    bench.run(update=True)
    assert bench.standin.request_count() == 15
    assert [row["number"] for row in bench.rows()] == list(range(15))
    assert "text" not in bench.rows()[0]


def test_appended_rows_that_change_a_columns_type_need_update(bench: Bench) -> None:
    bench.write(15)
    bench.run()
    with bench.source.open("a") as file:
        file.write(json.dumps({"id": "x", "text": "more", "n": "now text"}) + "\n")
    with pytest.raises(RunError, match=r"column's type"):
        bench.run()
    bench.run(update=True)
    assert bench.standin.request_count() == 16
    assert [row["n"] for row in bench.rows()][-2:] == ["14", '"now text"']


def test_a_folder_belongs_to_one_job(bench: Bench) -> None:
    bench.write(3)
    bench.run()
    bench.settings["name"] = "another"
    with pytest.raises(RunError, match=r"another job, 'bench'"):
        bench.run()


def test_rehearsed_answers_never_mix_with_real_ones(bench: Bench) -> None:
    bench.write(3)
    bench.run()
    bench.settings["provider"] = {"base_url": "rehearsal:?latency=0"}
    with pytest.raises(RunError, match="rehears"):
        bench.run()


def test_the_host_of_the_same_service_may_change(bench: Bench) -> None:
    bench.write(3)
    bench.run()
    bench.settings["provider"]["base_url"] = bench.standin.url.replace("127.0.0.1", "localhost")
    bench.run()
    assert bench.standin.request_count() == 3


def test_a_wrong_key_stops_at_once_and_the_right_one_resumes(bench: Bench) -> None:
    bench.write(200)
    bench.standin.behave("key=sk-the-right-one&latency=0.01")
    with pytest.raises(ProviderStopped, match="Invalid API key"):
        bench.run(key="sk-a-wrong-one")
    assert bench.standin.request_count() <= 8 + 20
    assert bench.start()["exit_code"] == 3
    assert bench.run(key="sk-the-right-one").totals.ok == 200
    for path in bench.out.rglob("*"):
        assert path.is_dir() or b"sk-a-wrong-one" not in path.read_bytes()


def test_the_same_rejection_for_the_first_rows_stops_the_run_and_leaves_them_open(bench: Bench) -> None:
    bench.write(200)
    bench.standin.behave("reject=1")
    with pytest.raises(ProviderStopped, match="first 20 requests were all refused"):
        bench.run()
    assert bench.standin.request_count() <= 8 + 20
    bench.standin.behave("")
    assert bench.run().totals.ok == 200


def test_keep_going_does_not_stop_on_rejections(bench: Bench) -> None:
    bench.write(30)
    bench.standin.behave("reject=1")
    view = bench.run(keep_going=True)
    assert view.totals.rejected == 30
    assert {row["error_type"] for row in bench.rows()} == {"rejected"}


def test_a_few_rejected_rows_are_results(bench: Bench) -> None:
    bench.write(5)
    bench.standin.behave("reject=1")
    assert bench.run().totals.rejected == 5


def test_a_web_page_at_the_start_means_a_wrong_address(bench: Bench) -> None:
    bench.write(50)
    bench.settings["provider"]["base_url"] = bench.standin.url.removesuffix("/v1") + "/somewhere"
    with pytest.raises(ProviderStopped, match="web page"):
        bench.run()


def test_bad_rows_are_refused_before_anything_is_sent_or_made(bench: Bench) -> None:
    bench.write(5)
    with bench.source.open("a") as file:
        file.write('{"text": "fine"}\nnot json\n[1]\n{"other": 1}\n')
    with pytest.raises(InputError, match=r"rows\.jsonl:7.*\n.*rows\.jsonl:8.*\n.*rows\.jsonl:9"):
        bench.run()
    assert bench.standin.request_count() == 0
    assert not bench.out.exists()


def test_bad_rows_can_be_rejected_one_by_one(bench: Bench) -> None:
    bench.write(5)
    with bench.source.open("a") as file:
        file.write('not json\n{"text": null}\n{"text": "fine"}\n')
    view = bench.run(reject_bad_rows=True)
    assert [row["status"] for row in bench.rows()] == ["ok"] * 5 + ["rejected", "rejected", "ok"]
    assert {row["error_type"] for row in bench.rows()[5:7]} == {"bad_row"}
    assert view.totals.rejected == 2
    bench.run(reject_bad_rows=True)
    assert bench.standin.request_count() == 6


def test_a_null_in_a_template_is_an_error_of_its_row(bench: Bench) -> None:
    bench.source.write_text('{"text": null}\n{"text": "fine"}\n')
    bench.run()
    assert [row["status"] for row in bench.rows()] == ["rejected", "ok"]
    assert "null" in bench.rows()[0]["error_message"]


def test_the_folder_of_a_running_run_is_locked(bench: Bench) -> None:
    bench.write(3)
    with locked_folder(read_job(None, bench.settings, {}), Secrets()), pytest.raises(RunLocked, match="process"):
        bench.run()
    assert bench.standin.request_count() == 0


def test_a_folder_with_other_files_is_refused(bench: Bench) -> None:
    bench.write(3)
    bench.out.mkdir()
    (bench.out / "thesis.docx").write_text("precious")
    with pytest.raises(RunError, match=r"thesis\.docx"):
        bench.run()
    assert (bench.out / "thesis.docx").read_text() == "precious"


def test_batch_lines_are_sent_as_they_are(bench: Bench) -> None:
    bodies = [
        {"model": "one", "messages": [{"role": "user", "content": "a"}], "top_p": 0.5},
        {"model": "two", "messages": [{"role": "user", "content": "b"}]},
    ]
    lines = [
        {"custom_id": f"c{n}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for n, body in enumerate(bodies)
    ]
    bench.source.write_text("\n".join(map(json.dumps, lines)))
    del bench.settings["model"]
    del bench.settings["input"]["prompt"]
    bench.run()
    assert [(row["custom_id"], row["model"], row["status"]) for row in bench.rows()] == [
        ("c0", "one", "ok"),
        ("c1", "two", "ok"),
    ]


def test_an_input_that_changes_during_the_run_stops_it(bench: Bench, provider: odd_provider.Provider) -> None:
    bench.write(300, text="row {}")
    source = bench.source.read_text()

    def answer(row: int, attempt: int, nth: int) -> bytes:
        if row == 0:
            bench.source.write_text(source.replace("row 3", "row 4"))
        return reply(200, GOOD)

    provider.answer = answer
    with pytest.raises(InputChanged):
        bench.run()
    assert bench.start()["exit_code"] == 3


def test_prices_fill_the_cost(bench: Bench) -> None:
    bench.write(3)
    bench.settings["prices"] = {"m": {"input": 1.0, "output": 2.0}}
    view = bench.run()
    expected = [(row["prompt_tokens"] + 2 * row["completion_tokens"]) / 1e6 for row in bench.rows()]
    assert [row["cost_usd"] for row in bench.rows()] == pytest.approx(expected)
    assert view.totals.cost_usd == pytest.approx(sum(expected))


def test_unknown_rehearsal_options_are_refused(bench: Bench) -> None:
    bench.write(3)
    bench.settings["provider"] = {"base_url": "rehearsal:?latencie=1"}
    with pytest.raises(JobError, match="latency"):
        bench.run()
    assert not bench.out.exists()


def test_files_are_for_their_owner_only(bench: Bench) -> None:
    bench.write(3)
    bench.run()
    assert bench.out.stat().st_mode & 0o777 == 0o700
    for path in bench.out.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_job_sets_the_mode_of_all_its_files(bench: Bench) -> None:
    """Whatever the umask, existing files included; folders get the matching permission to enter."""
    bench.write(25)
    bench.settings["eval"] = {"scorers": [{"kind": "regex", "pattern": "."}]}
    bench.standin.behave("balance=15")
    for mode in (None, "0640"):
        if mode:
            bench.settings["output"]["mode"] = mode
        with pytest.raises(ProviderStopped):
            bench.run()
    assert {path.stat().st_mode & 0o777 for path in bench.out.rglob("*") if path.is_file()} == {0o640}
    bench.standin.behave("")
    bench.run()
    job = read_job(None, bench.settings, {})
    evaluate_run(bench.out, JudgeContext(job, Secrets(), bench.run_status), prepare_scorers(job))
    write_report(bench.out, None)
    modes = {path.stat().st_mode & 0o777 for path in bench.out.rglob("*") if path.is_file()}
    assert (modes, len(list(bench.out.rglob("*"))) > 9) == ({0o640}, True)
    assert {path.stat().st_mode & 0o777 for path in (bench.out, *bench.out.rglob("*")) if path.is_dir()} == {0o750}
    reader.export(bench.out, bench.root / "a.csv")
    assert (bench.root / "a.csv").stat().st_mode & 0o777 == 0o640
    bench.settings["output"]["path"] = str(fresh := bench.root / "fresh")
    bench.run()
    assert {path.name for path in fresh.rglob("*") if path.is_file() and path.stat().st_mode & 0o777 != 0o640} == set()
    for wrong in ("0755", "rw-", "0440", "0640 "):
        with pytest.raises(JobError, match=r"output\.mode"):
            read_job(None, bench.settings | {"output": {"mode": wrong}}, {})


def test_the_raw_answer_can_be_left_out(bench: Bench, tmp_path: Path) -> None:
    bench.write(3)
    bench.settings["output"]["raw"] = False
    bench.run()
    assert {row["raw"] for row in bench.rows()} == {None}


STREAMED_ROWS = [
    "plain", "é 😀", "[[rehearsal:tools]]", "[[rehearsal:refusal]]", "[[rehearsal:reasoning]]", "[[rehearsal:null]]",
    "[[rehearsal:filter]]", "[[rehearsal:400]]", "[[rehearsal:500x1]]", "[[rehearsal:echo]] a  b\n c ",
]  # fmt: skip


def test_the_same_job_streamed_gives_the_same_data(bench: Bench) -> None:
    """Except columns that vary from run to run, and raw bodies, whose content is the same."""
    bench.source.write_text("\n".join(json.dumps({"text": text}) for text in STREAMED_ROWS))
    bench.settings |= {"samples": 2, "prices": {"m": {"input": 1, "output": 2}}}
    found = []
    for name, params in (("plain", {"n": 2}), ("streamed", {"n": 2, "stream": True})):
        bench.out = bench.root / name
        bench.settings |= {"params": params, "output": {"path": str(bench.out), "shard_rows": 10}}
        bench.run()
        found.append(bench.rows())
    plain, streamed = found
    for rows in found:
        for row in rows:
            raw = json.loads(row.pop("raw"))
            row["said"] = raw.get("choices") or raw["error"]["type"]
            row["error_message"] = (row["error_message"] or "").partition(" (tid")[0]
            for varying in VARYING:
                del row[varying]
    assert streamed == plain
    assert [row["status"] for row in plain].count("ok") == 18


def test_a_run_resumes_with_streaming_switched_on_or_off(bench: Bench) -> None:
    bench.write(12)
    bench.run(limit=7)
    bench.settings["params"] = {"stream": True}
    bench.run()
    before = {path: path.stat().st_ino for path in (bench.out / "data").iterdir()}
    bench.settings["params"] = {}
    bench.run()
    assert {path: path.stat().st_ino for path in (bench.out / "data").iterdir()} == before
    assert bench.standin.request_count() == 12
    assert [row["status"] for row in bench.rows()] == ["ok"] * 12


def test_batch_lines_and_long_answers_are_streamed(bench: Bench) -> None:
    message = [{"role": "user", "content": "x"}]
    bodies = [{"stream": True}, {}, {"max_tokens": 9000}, {"max_tokens": 9000, "stream": False}]
    lines = [
        {"custom_id": str(at), "body": {"model": "m", "messages": message, **body}} for at, body in enumerate(bodies)
    ]
    bench.source.write_text("\n".join(map(json.dumps, lines)))
    del bench.settings["model"], bench.settings["input"]["prompt"]
    bench.run()
    rows = bench.rows()
    assert [row["status"] for row in rows] == ["ok"] * 4
    assert len({row["response"] for row in rows}) == 1
    assert len({row["total_tokens"] for row in rows}) == 1


def test_a_stream_that_is_cut_off_is_retried(bench: Bench) -> None:
    bench.source.write_text(json.dumps({"text": "[[rehearsal:cutx2]]"}))
    bench.settings["params"] = {"stream": True}
    bench.run()
    (row,) = bench.rows()
    assert (row["status"], row["attempts"], row["maybe_billed"]) == ("ok", 3, 2)


def _requests_of_an_earlier_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send the `weight` of a message, as an earlier version did."""
    monkeypatch.setattr("batchmix.load.messages._TUNING", "\x00")
    monkeypatch.setattr("batchmix.engine.shard_comparison._REQUEST_VERSION", 2)


def test_a_version_that_builds_other_requests_sends_no_answered_row_again_unnoticed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in an open shard, nor in a sealed part that is opened again."""
    messages = [
        {"role": "user", "content": f"word {row}{' [[rehearsal:reject]]' * (row == 1)}", "weight": 1}
        for row in range(12)
    ]
    bench.source.write_text("".join(json.dumps({"messages": [one], "n": 1}) + "\n" for one in messages))
    bench.settings["input"] = {"path": str(bench.source)}
    bench.settings["limits"]["concurrency"] = 1
    bench.standin.behave("balance=4")
    with monkeypatch.context() as before:
        _requests_of_an_earlier_version(before)
        with pytest.raises(ProviderStopped):
            bench.run()
    bench.standin.behave()
    with pytest.raises(RunError, match=r"makes other requests of some rows.*request 4 existing answers again"):
        bench.run()
    with monkeypatch.context() as before:
        _requests_of_an_earlier_version(before)
        assert bench.run().totals.ok == 11
    sent = bench.standin.request_count()
    assert bench.run().totals.ok == 11  # nothing is open, so no row is read again
    with pytest.raises(RunError, match="request 9 existing answers again"):
        bench.run(retry_rejected=True)
    bench.settings["input"]["columns"] = ["n"]
    with pytest.raises(RunError, match="request 11 existing answers again"):
        bench.run()
    assert bench.standin.request_count() == sent
