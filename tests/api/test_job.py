"""A job is a value: checked, immutable, equal to its own text."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from batchmix.api.job import Job
from batchmix.errors import JobError

ROOT = Path(__file__).parent.parent.parent


def test_a_job_is_the_same_from_a_call_a_file_and_its_own_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = Job(
        "reviews.jsonl", "Classify: {{ text }}", model="gpt-4o-mini", out="runs/x", params={"temperature": 0},
        limits={"concurrency": 64}, examples=[("I loved it", "pos")],
    )  # fmt: skip
    Path("job.toml").write_text(job.to_toml())
    for other in (
        Job.from_toml(job.to_toml()),
        Job("job.toml", out="runs/x", name="reviews"),
        pickle.loads(pickle.dumps(job)),
    ):
        assert other == job
        assert hash(other) == hash(job)
    assert (job.name, job.folder, job.models) == ("reviews", tmp_path / "runs" / "x", ("gpt-4o-mini",))
    assert job.input_path == str(tmp_path / "reviews.jsonl")
    assert job.checked.limits.concurrency == 64
    assert job != Job("reviews.jsonl", "Classify: {{ text }}", model="gpt-4o-mini", out="runs/x")


def test_jobs_whose_requests_differ_are_not_equal() -> None:
    one, other = (Job("-", model="m", params={"n": value}) for value in (1, True))
    assert one != other
    assert one != 3


def test_a_job_can_not_be_changed_and_does_not_change_with_its_arguments() -> None:
    params = {"stop": ["a"]}
    job = Job("-", model="m", params=params)
    with pytest.raises(AttributeError):
        job.name = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        job.other = 3  # type: ignore[attr-defined]
    params["stop"].append("b")
    assert job.checked.params == {"stop": ["a"]}


def test_the_repr_is_one_plain_line_without_secrets() -> None:
    job = Job("/a/rows\n.jsonl", model="m", out="/runs/x", provider={"headers": {"X": "secret-value"}})
    assert repr(job) == "<Job rows_: /a/rows\\n.jsonl → /runs/x; models: m>"
    assert "secret-value" in job.to_toml()  # it is the job's own text


def test_an_option_of_a_start_is_refused_with_the_place_where_it_belongs() -> None:
    with pytest.raises(JobError, match=r"^limit: is no part of a job; give it to the start: bm\.run\(job, limit=…\)$"):
        Job("-", model="m", limit=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = ", r"^job:1: is not valid TOML"),
        ('modle = "m"\ninput.path = "-"', "^unknown setting modle: did you mean model\\?$"),
    ],
)
def test_a_wrong_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        Job.from_toml(text)


def test_rows_are_refused_with_the_call_that_takes_them() -> None:
    with pytest.raises(JobError, match=r"^source: expected a path, got list; .* give them to bm\.run\(…\)$"):
        Job([{"text": "a"}], model="m")  # type: ignore[arg-type]
