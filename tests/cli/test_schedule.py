"""`batchmix schedule`: what it refuses and prints, and a scheduled run of the example."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.calling import MARKER, batchmix, called, refused

EXAMPLE = Path(__file__).parent.parent.parent / "jobs/nightly/capitals.toml"
SCHEDULE = '[schedule]\ncron = "30 2 * * *"\ntimezone = "Europe/Berlin"\n'
REHEARSED = '[provider]\nbase_url = "rehearsal:"\n'


def write(root: Path, text: str = "", name: str = "job") -> Path:
    (root / "rows.jsonl").write_text('{"prompt": "hello"}\n')
    path = root / f"{name}.toml"
    path.write_text(f'model = "m"\n[input]\npath = "rows.jsonl"\n{text}')
    return path


def test_the_example_makes_up_its_last_scheduled_run_once(tmp_path: Path) -> None:
    done = batchmix("schedule", str(EXAMPLE), "--once", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "answered     40 of 40" in done.stdout
    assert "is over: exit code 0" in done.stderr
    [night] = json.loads((tmp_path / "runs/schedule/nightly-capitals.json").read_text())["nights"]
    assert night["folder"] == str(tmp_path / "runs/nightly-capitals" / night["night"])
    again = batchmix("schedule", str(EXAMPLE), "--once", cwd=tmp_path)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_an_ordinary_run_of_the_example_uses_the_folder_of_its_scheduled_date(tmp_path: Path) -> None:
    batchmix("schedule", str(EXAMPLE), "--once", cwd=tmp_path)
    [folder] = (tmp_path / "runs/nightly-capitals").iterdir()
    done = batchmix("run", str(EXAMPLE), "--date", folder.name, "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["attempts"] == 40
    assert list((tmp_path / "runs/nightly-capitals").iterdir()) == [folder]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["has no [schedule]", "cron ="]),
        (SCHEDULE.replace("cron", "corn"), ["schedule.corn", "did you mean schedule.cron"]),
        (SCHEDULE, ["AIHUBMIX_API_KEY", "not set"]),
    ],
)
def test_a_job_that_cannot_run_unattended_is_refused_at_once(text: str, words: list[str], tmp_path: Path) -> None:
    refused(
        batchmix("schedule", str(write(tmp_path, text)), cwd=tmp_path), "job.toml" if "corn" in text else "", *words
    )
    assert not (tmp_path / "runs").exists()


def test_two_jobs_of_one_name_and_a_job_that_reads_standard_input_are_refused(tmp_path: Path) -> None:
    one, two = (write(tmp_path, f"{REHEARSED}{SCHEDULE}", name) for name in ("one", "two"))
    two.write_text('name = "one"\n' + two.read_text())
    refused(batchmix("schedule", str(one), str(two), cwd=tmp_path), "'one'", "two jobs")
    two.write_text(two.read_text().replace('"rows.jsonl"', '"-"'))
    refused(batchmix("schedule", str(two), cwd=tmp_path), "two.toml", "standard input")


def test_a_job_whose_scheduled_runs_share_a_folder_is_reported(tmp_path: Path) -> None:
    done = batchmix("schedule", str(write(tmp_path, REHEARSED + SCHEDULE)), "--once", cwd=tmp_path)
    assert done.returncode == 0
    assert "no {date}" in done.stderr


@pytest.mark.parametrize("kind", ["systemd", "cron", "kubernetes"])
def test_units_are_printed_without_the_key_and_run_nothing(kind: str, tmp_path: Path) -> None:
    job = write(tmp_path, SCHEDULE.replace("Europe/Berlin", "UTC") if kind == "cron" else SCHEDULE)
    done = batchmix("schedule", str(job), "--print", kind, cwd=tmp_path, AIHUBMIX_API_KEY=MARKER)
    if done.returncode == 2:  # for machines whose clock is not UTC
        refused(done, "schedule.timezone")
        return
    assert "AIHUBMIX_API_KEY" in done.stdout
    assert "--once" in done.stdout
    assert MARKER not in done.stdout + done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_foreign_state_file_is_refused(tmp_path: Path) -> None:
    job, state = write(tmp_path, REHEARSED + SCHEDULE), tmp_path / "state"
    state.mkdir()
    (state / "job.json").write_text('{"since": 3}')
    refused(batchmix("schedule", str(job), "--once", "--state", str(state)), "job.json", "can't be read")
    (state / "job.json").write_text('{"since": "2026-01-01T00:00:00Z", "version": 9}')
    refused(batchmix("schedule", str(job), "--once", "--state", str(state)), "another version")


def test_scheduled_times_that_share_a_folder_are_refused_and_time_helps(tmp_path: Path) -> None:
    twice = f'{REHEARSED}{SCHEDULE}[output]\npath = "runs/{{name}}/{{date}}"\n'.replace("30 2", "30 2,14")
    refused(batchmix("schedule", str(write(tmp_path, twice)), cwd=tmp_path), "same folder", "{time}")
    job = write(tmp_path, twice.replace("{date}", "{date}-{time}"))
    done = batchmix("schedule", str(job), "--once", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "runs/job").iterdir()
    assert folder.name[-5:] in {"-0230", "-1430"}
    assert batchmix("run", str(job), "--date", "2026-10-25T14:30", cwd=tmp_path).returncode == 0
    assert batchmix("run", str(job), "--date", "2026-10-24", cwd=tmp_path).returncode == 0
    assert {"2026-10-25-1430", "2026-10-24-1430"} < {path.name for path in (tmp_path / "runs/job").iterdir()}
    refused(batchmix("run", str(job), "--date", "yesterday", cwd=tmp_path), "--date", "2026-11-27T02:30")
    plain = write(tmp_path, f'{REHEARSED}[output]\npath = "runs/{{name}}-{{time}}"\n', "plain")
    refused(batchmix("run", str(plain), cwd=tmp_path), "output.path", "no [schedule]")


def test_two_jobs_with_one_folder_are_refused_and_the_others_run(tmp_path: Path) -> None:
    shared = f'{REHEARSED}{SCHEDULE}[output]\npath = "runs/nightly/{{date}}"\n'
    one, two = write(tmp_path, shared, "one"), write(tmp_path, shared, "two")
    three = write(tmp_path, shared.replace("nightly", "three"), "three")
    refused(batchmix("schedule", str(one), str(two), cwd=tmp_path), "one.toml", "same run folder")
    done = batchmix("schedule", str(one), str(two), str(three), "--once", cwd=tmp_path)
    assert done.returncode == 2
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.name != "schedule"] == ["three"]


def test_an_address_without_its_variable_is_refused_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write(tmp_path, f'{REHEARSED}{SCHEDULE}on_finish = "env:HOOK"\n')
    refused(batchmix("schedule", str(job), cwd=tmp_path), "schedule.on_finish", "HOOK")
    refused(batchmix("schedule", str(job), cwd=tmp_path, HOOK=MARKER), "schedule.on_finish", "HOOK")
    job = write(tmp_path, f'{REHEARSED}{SCHEDULE}on_finish = "ftp://{MARKER}"\n')
    refused(batchmix("schedule", str(job), cwd=tmp_path), "schedule.on_finish", "https://")
    address = f"http://127.0.0.1:9/{MARKER}"
    job = write(tmp_path, f'{REHEARSED}{SCHEDULE}on_finish = "{address}"\n')
    monkeypatch.setattr("batchmix.schedule.on_finish._WAITS_S", (0.0, 0.0))
    monkeypatch.chdir(tmp_path)
    done = called(monkeypatch, "schedule", str(job), "--once", "-vv")
    assert "on_finish failed: the address gave no response" in done.stderr
    assert MARKER not in done.stdout + done.stderr
    assert not [
        path for path in (tmp_path / "runs").rglob("*") if path.is_file() and MARKER in path.read_text("latin-1")
    ]


def test_runs_that_would_not_find_each_other_are_refused(tmp_path: Path) -> None:
    apart = (
        f'{REHEARSED}{SCHEDULE}[output]\npath = "runs/{{name}}/{{date}}/{{time}}"\n'
        '[eval]\nagainst = "last-good"\n[[eval.scorers]]\nkind = "regex"\npattern = "x"\n'
    )
    refused(batchmix("schedule", str(write(tmp_path, apart)), cwd=tmp_path), "output.path", "{date}-{time}")
