"""eval, diff and an evaluated run on the command line: exit codes, JSON, and nothing raw from an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.calling import batchmix, refused
from tests.conftest import Provider

JOB = """
name = "night"
model = "m"
[input]
path = "rows.jsonl"
prompt = "[[rehearsal:echo]] {{{{ said }}}}"
[provider]
base_url = "{url}"
api_key_env = ""
[output]
path = "{root}/runs/{{name}}"
[eval]
target = "answer"
[[eval.scorers]]
kind = "includes"
"""


@pytest.fixture
def job(tmp_path: Path, standin: Provider) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(JOB.format(url=standin.url, root=tmp_path))
    write(tmp_path, right=15, wrong=5)
    return path


def write(root: Path, *, right: int, wrong: int) -> None:
    rows = [
        {"said": f"\x1b[31m number {n}", "answer": f"number {n}" if n < right else "no"} for n in range(right + wrong)
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_shows_its_evaluation_and_a_missed_threshold_is_exit_code_1(job: Path) -> None:
    done = batchmix("run", str(job), "--set", "output.mode=0640")
    assert done.returncode == 0, done.stderr
    assert "includes" in done.stdout
    assert "0.750" in done.stdout
    assert (job.parent / "runs" / "history.parquet").stat().st_mode & 0o777 == 0o640
    guard = 'eval.guards=[{scorer = "includes", min = 0.8}]'
    below = batchmix("run", str(job), "--set", guard)
    assert below.returncode == 1
    assert "MISSED: m: includes is 0.75, less than 0.8" in below.stdout
    found = json.loads(batchmix("run", str(job), "--set", guard, "--json").stdout)
    assert found["ok"] == 20
    assert found["evaluation"]["missed"] == ["m: includes is 0.75, less than 0.8"]


def test_eval_scores_again_and_sends_nothing(job: Path, standin: Provider) -> None:
    batchmix("run", str(job))
    run = str(job.parent / "runs" / "night")
    text = job.read_text().replace('kind = "includes"', 'kind = "similarity"')
    job.write_text(text)
    done = batchmix("eval", run, str(job), "--json")
    assert done.returncode == 0, done.stderr
    assert [score["scorer"] for score in json.loads(done.stdout)["scores"]] == ["similarity"]
    assert "includes" in batchmix("eval", run).stdout
    assert standin.request_count() == 20


def test_mistakes_are_refused_before_anything_is_sent(job: Path, standin: Provider) -> None:
    for setting, words in {
        'eval.scorers=[{kind="exat"}]': ["'exat'", "did you mean exact?"],
        'eval.scorers=[{kind="exact", casefild=true}]': ["eval.scorers.casefild", "casefold"],
        "eval.scorers=[]": ["at least one"],
        'eval.scorers=[{kind="exact"}, {kind="exact"}]': ["is there twice"],
        'eval.scorers=[{kind="regex", pattern="("}]': ["pattern"],
        'eval.scorers=[{kind="own", python="nowhere:f"}]': ["nowhere"],
        'eval.guards=[{scorer="other"}]': ["no scorer 'other'"],
        'eval.guards=[{model="other"}]': ["no model 'other'"],
        'eval.target="anwser"': ["no column 'anwser'"],
        "eval.treshold=1": ["eval.treshold"],
    }.items():
        refused(batchmix("run", str(job), "--set", setting), *words)
    assert standin.request_count() == 0


def test_a_diff_exits_with_1_if_a_score_is_worse_and_prints_nothing_raw(job: Path) -> None:
    write(job.parent, right=20, wrong=0)
    assert batchmix("run", str(job)).returncode == 0
    assert batchmix("run", str(job), "--out", str(job.parent / "runs" / "later")).returncode == 0
    runs = [str(job.parent / "runs" / name) for name in ("night", "later")]
    same = batchmix("diff", *runs)
    assert same.returncode == 0
    assert "no guarded metric is significantly worse" in same.stdout
    worsen(Path(runs[1]))
    worse = batchmix("diff", *runs)
    assert worse.returncode == 1
    assert "WORSE: m: includes -0.5" in worse.stdout
    assert "number 0" in worse.stdout
    assert "\x1b" not in worse.stdout
    found = json.loads(batchmix("diff", *runs, "--json", "--show", "1").stdout)
    assert found["comparisons"][0]["verdict"] == "worse"
    assert len(found["examples"]) == 1


def worsen(run: Path) -> None:
    """Set half of a run's scores to 0."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = run / "evaluation" / "scores.parquet"
    table = pq.read_table(path)
    scores = pa.array([0.0] * 10 + [1.0] * 10)
    pq.write_table(table.set_column(5, "score", scores), path)


JUDGE = 'eval.scorers=[{kind="judge", model="j", rubric="[[rehearsal:echo]] {{ response }} score: 1"}]'


def test_a_stopped_judge_resumes_with_the_same_command(job: Path, standin: Provider) -> None:
    batchmix("run", str(job))
    (elsewhere := job.parent / "elsewhere").mkdir()
    (linked := job.parent / "runs" / "night" / "evaluation" / "judge-judge").symlink_to(elsewhere)
    stood = batchmix("run", str(job), "--set", JUDGE)
    assert (stood.returncode, standin.request_count(), list(elsewhere.iterdir())) == (2, 20, []), stood.stderr
    assert f"judge-judge: is a link to {elsewhere}" in stood.stderr
    linked.unlink()
    standin.behave("balance=8")
    stopped = batchmix("run", str(job), "--set", JUDGE, "--set", "limits.concurrency=1")
    assert stopped.returncode == 3
    assert "the same command resumes its evaluation" in stopped.stderr
    standin.behave()
    sent = standin.request_count()
    done = batchmix("run", str(job), "--set", JUDGE, "--json")
    assert done.returncode == 0, done.stderr
    judged = json.loads(done.stdout)["evaluation"]["judges"][0]
    assert judged["ok"] == 20
    assert standin.request_count() - sent == 12


def test_eval_of_a_run_with_masked_headers_needs_them_again_or_the_job_file(job: Path) -> None:
    text = job.read_text().replace('api_key_env = ""', 'api_key_env = ""\nheaders = {"X-Own" = "something-secret"}')
    job.write_text(
        text.replace(
            'kind = "includes"', 'kind = "judge"\nmodel = "j"\nrubric = "[[rehearsal:echo]] {{ response }} score: 1"'
        )
    )
    batchmix("run", str(job))
    run = str(job.parent / "runs" / "night")
    again = "provider.headers.X-Own=env:NAME"
    refused(batchmix("eval", run), "provider.headers.X-Own: is masked (***)", f"give it again: --set {again}")
    assert batchmix("eval", run, "--set", again, NAME="something-secret").returncode == 0
    assert batchmix("eval", run, str(job)).returncode == 0
    for path in (job.parent / "runs").rglob("*"):
        assert path.is_dir() or b"something-secret" not in path.read_bytes()
