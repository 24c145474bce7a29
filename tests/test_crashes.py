"""After a kill at any change of a file, the same command completes the run."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import forking
from tests.conftest import Provider
from tests.damaging import damage_page
from tests.killing import command, fetch, results, write_rows


def killed_at(call: list[str], number: int) -> bool:
    """Run a command that is killed at its n-th change of a file; return whether it got that far."""
    crashing = [call[0], "-m", "tests.crashing", str(number), *call[3:]]
    done = forking.run(crashing)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@dataclasses.dataclass
class Scene:
    """The preparation of the command that is killed, and the command."""

    prepare: Callable[[Path, str], None]
    source: str = "rows.jsonl"
    more: tuple[str, ...] = ()


SETTINGS = ("--set", "output.shard_rows=10", "--concurrency", "8", "--set", "name=crash", "--set", "retry.attempts=1")

TYPED = ("--set", 'answer.schema={type="object", properties={mood={enum=["good", "bad"]}}, required=["mood"]}')


def fresh(root: Path, url: str) -> None:
    write_rows(root / "rows.jsonl", 25)


def begun(root: Path, url: str, *more: str) -> None:
    fresh(root, url)
    forking.run(command(url, root / "rows.jsonl", root / "run", *SETTINGS, *more))


def appended(root: Path, url: str) -> None:
    begun(root, url)
    write_rows(root / "rows.jsonl", 7, first=25)


def failed(root: Path, url: str) -> None:
    fetch(url, "behaviour", "500=0.4&max_faults=1&seed=3")
    begun(root, url)
    fetch(url, "behaviour", "")


def broken(root: Path, url: str) -> None:
    """Let rows fail between an invalid answer and its repair. The journals keep these answers."""
    fetch(url, "behaviour", "wrong_enum=0.4&500=0.3&seed=3")
    begun(root, url, *TYPED)
    fetch(url, "behaviour", "")
    assert list((root / "run" / "journal").iterdir())


def limited(root: Path, url: str) -> None:
    begun(root, url, "--limit", "13")


def bereft(root: Path, url: str) -> None:
    """Delete one part, and damage a page of another."""
    begun(root, url)
    data = root / "run" / "data"
    (data / "part-00001.parquet").unlink()
    damage_page(data / "part-00000.parquet", "raw")


SCENES = {
    "a first run": Scene(fresh),
    "appended rows": Scene(appended),
    "failed rows": Scene(failed),
    "repairs that failed": Scene(broken, more=TYPED),
    "a limit that is lifted": Scene(limited),
    "a changed model": Scene(begun, more=("--model", "other", "--update")),
    "a changed prompt": Scene(begun, more=("--prompt", "Tell {{ text }}", "--update")),
    "answers that are lost": Scene(bereft, more=("--update",)),
    "changed columns": Scene(begun, more=("--set", 'input.columns=["n"]', "--update")),
}


def crash_everywhere(scene: Scene, tmp_path: Path, standin: Provider, steps: range) -> int:
    """Kill a command at each of some steps and complete it; return the number of its last step."""
    prepared, root = tmp_path / "prepared", tmp_path / "root"
    root.mkdir()
    standin.behave()
    scene.prepare(root, standin.url)
    root.rename(prepared)
    call = command(standin.url, root / scene.source, root / "run", *SETTINGS, *scene.more)
    expected = None
    last = 0
    for step in [0, *steps]:  # 0: undisturbed
        shutil.copytree(prepared, root)
        if step and not killed_at(call, step):
            break
        # An accepted loss is recorded: the same command resumes with --update, and from then on without.
        again = [word for word in call if word != "--update"] if _accepted(root / "run", scene) else call
        done = forking.run(again)
        assert done.returncode == 0, f"step {step}: {done.stderr}"
        table = results(root / "run")
        expected = table if expected is None else expected
        assert table.equals(expected), f"step {step}: the results differ"
        assert not list((root / "run" / "journal").iterdir())
        last = step
        shutil.rmtree(root)
    return last


def _accepted(out: Path, scene: Scene) -> bool:
    """Return whether the killed command had already recorded that the loss is accepted."""
    if "--update" not in scene.more or not (out / "run.json").exists():
        return False
    run = json.loads((out / "run.json").read_text())
    return len(run["starts"]) > 1


@pytest.mark.parametrize("name", SCENES)
def test_a_kill_at_some_changes_of_a_file_is_survived(name: str, tmp_path: Path, standin: Provider) -> None:
    first = 17 + 3 * list(SCENES).index(name)  # at another step in each scene
    crash_everywhere(SCENES[name], tmp_path, standin, range(first, 75, 35))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_a_kill_at_every_change_of_a_file_is_survived(name: str, tmp_path: Path, standin: Provider) -> None:
    steps = crash_everywhere(SCENES[name], tmp_path, standin, range(1, 10_000))
    assert steps > 10
