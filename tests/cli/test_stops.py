"""A broken job stops in seconds with a message to act on, and the same command resumes once the cause is fixed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.calling import batchmix
from tests.conftest import Provider
from tests.killing import fetch, results, status, write_rows
from tests.polling import WITHIN_S

KEY = "sk-right-0123456789"
ROWS, IN_FLIGHT = 600, 200


def call(url: str, folder: Path, *more: str) -> tuple[str, ...]:
    """Return a command whose provider is still broken."""
    if not (folder / "rows.jsonl").exists():
        write_rows(folder / "rows.jsonl", ROWS)
    return (
        "run", str(folder / "rows.jsonl"), "--prompt", "Say {{ text }}", "--base-url", url, "--out", str(folder / "out"),
        "--progress", "none", "--concurrency", str(IN_FLIGHT), *more,
    )  # fmt: skip


CAUSES = {
    "wrong key": (f"key={KEY}", f"key={KEY}", "sk-wrong-0123456789", ["Invalid API key: ***", "set the right key"]),
    "empty balance": ("balance=0", "", KEY, ["Your balance is insufficient", "top up the account"]),
    "empty balance, as 429": ("balance=0&broke=429_quota", "", KEY, ["exceeded your current quota", "top up"]),
    "an account that never paid": ("unfunded=1", "", KEY, ["have not been recharged", "top up the account"]),
    "wrong model id": ("models=another", "models=m", KEY, ["Incorrect model ID", "copy the model's id"]),
    "everything is 400": ("reject=1", "", KEY, ["the first 20 requests were all refused: Invalid", "--keep-going"]),
    "a web page": ("html=1", "", KEY, ["web page", "did you leave out /v1?"]),
}
OF_THE_JOB = {"wrong model id", "everything is 400", "a web page"}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_broken_job_stops_in_seconds_and_resumes_once_it_is_fixed(
    cause: str, tmp_path: Path, standin: Provider
) -> None:
    behaviour, fixed, key, words = CAUSES[cause]
    standin.behave(f"latency=0.1&{behaviour}")
    command = call(standin.url, tmp_path, "--model", "m")
    began = time.monotonic()
    done = batchmix(*command, AIHUBMIX_API_KEY=key)
    assert time.monotonic() - began < WITHIN_S
    assert done.returncode == 3
    resume = "change that in the job or in this command" if cause in OF_THE_JOB else "run the same command again"
    for word in (*words, f"To resume, {resume}"):
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert key not in done.stdout + done.stderr
    assert standin.request_count() <= IN_FLIGHT + 20
    standin.behave(f"latency=0.01&{fixed}")
    fetch(standin.url, "reset", "")
    done = batchmix(*command, AIHUBMIX_API_KEY=KEY)
    assert done.returncode == 0, done.stderr
    assert standin.request_count() == ROWS
    assert set(results(tmp_path / "out")["status"].to_pylist()) == {"ok"}


def test_a_wrong_path_stops_in_seconds_after_a_few_requests(tmp_path: Path, standin: Provider) -> None:
    """A 404 may be transient; if no other response ever comes, the job is wrong."""
    command = call(standin.url, tmp_path, "--model", "m", "--json")
    began = time.monotonic()
    done = batchmix(*command, "--base-url", f"{standin.url}/elsewhere", AIHUBMIX_API_KEY=KEY)
    assert time.monotonic() - began < WITHIN_S
    assert done.returncode == 3
    assert "Invalid URL" in done.stderr
    assert "look at provider.base_url" in done.stderr
    assert "To resume, change that in the job or in this command" in done.stderr
    assert batchmix(*command, AIHUBMIX_API_KEY=KEY).returncode == 0


def test_only_the_unknown_one_of_two_models_stops_and_it_resumes_once_it_exists(
    tmp_path: Path, standin: Provider
) -> None:
    standin.behave("latency=0.1&models=good")
    command = call(standin.url, tmp_path, "--set", 'models=[{id="good"},{id="bad"}]')
    done = batchmix(*command, AIHUBMIX_API_KEY=KEY)
    assert done.returncode == 3
    assert "bad: Incorrect model ID" in done.stderr
    assert "copy the model's id" in done.stderr
    assert standin.request_count() <= ROWS + IN_FLIGHT + 20
    record = status(tmp_path / "out")
    assert (record["ok"], record["failed"], record["unanswered"]) == (ROWS, ROWS, 0)
    standin.behave("models=good,bad")
    fetch(standin.url, "reset", "")
    assert batchmix(*command, AIHUBMIX_API_KEY=KEY).returncode == 0
    assert standin.request_count() == ROWS


def test_a_key_that_is_refused_after_many_answers_stops_the_run_and_reports_their_number(
    tmp_path: Path, standin: Provider
) -> None:
    """More requests would not help; the number of answers shows that the key worked before."""
    rows = [f'{{"text": "{number}{" [[rehearsal:401]]" if number == 400 else ""}"}}' for number in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    command = call(standin.url, tmp_path, "--model", "m")
    done = batchmix(*command, AIHUBMIX_API_KEY=KEY)
    assert done.returncode == 3
    assert " answers: " in done.stderr
    assert "set the right key" in done.stderr
    assert status(tmp_path / "out")["unanswered"] > 0
