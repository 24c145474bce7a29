"""The index of an output root: each job and night, with its state; nothing from a run is rendered."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from batchmix.errors import RunError
from batchmix.reports.index_page import write_index
from batchmix.reports.report_page import write_report
from batchmix.verdict.pinned import pin
from tests.calling import batchmix
from tests.comparison.test_run_diff import evaluated_run, put_scores, rows
from tests.conftest import EvalBench, Provider
from tests.reports.test_report_page import EVIL, Page
from tests.verdict.nights import Nights


def index(root: Path) -> Page:
    return Page(write_index(root)[0].read_text())


def nights(page: Page) -> list[tuple[str, str]]:
    """Return the state of each night, and the address of its report."""
    found = [
        attributes for tag, attributes in page.tags if "title" in attributes and "night" in str(attributes["class"])
    ]
    return [(str(night["class"]).removeprefix("night "), night.get("href") or "") for night in found]


def test_each_job_has_its_nights_with_their_states_and_reports(evaluated: EvalBench) -> None:
    root = evaluated.root / "out"
    first = evaluated_run(evaluated, "out/nightly/2026-11-01", rows([True] * 4))
    evaluated.settings["eval"]["guards"] = [{"metric": "score", "min": 0.9}]
    second = evaluated_run(evaluated, "out/nightly/2026-11-02", rows([True, False] * 2))
    evaluated.settings["name"] = "plain"
    evaluated.settings["output"]["path"] = str(root / "plain")
    evaluated.out = root / "plain"
    evaluated.write_said(rows([True] * 4))
    evaluated.run(limit=3)
    write_report(first, None)
    write_report(second, first)
    page = index(root)
    assert nights(page) == [
        ("passed", "./nightly/2026-11-01/report.html"),
        ("failed", "./nightly/2026-11-02/report.html"),
        ("try", ""),
    ]
    for text in (
        "2 jobs, 1 failed.",
        "Missed: m: includes is 0.5, less than 0.9",
        "Thresholds: m: includes at least 0.9",
        "m · includes",
        "0.500 to 1.000",
        "2026-11-01 to 2026-11-02",
    ):
        assert text in page.text
    assert page.text.count("less than 0.9") == 1, "the line of the last night leaves the alarms to those below it"
    titles = [str(attributes["title"]) for _, attributes in page.tags if "title" in attributes]
    assert any("Missed: m: includes is 0.5, less than 0.9" in title for title in titles)
    assert page.text.index("bench failed") < page.text.index("plain try"), "jobs that failed come first"
    assert (root / "index.html").stat().st_mode & 0o777 == 0o600
    index(root)


def test_nothing_from_a_run_is_rendered_and_no_link_leaves_the_folder(evaluated: EvalBench) -> None:
    evaluated.settings["models"] = [{"id": "m", "name": f"m{EVIL}"}]
    del evaluated.settings["model"]
    folder = "out/javascript:alert(1)#?%22"
    made = evaluated_run(evaluated, folder, rows([True] * 2))
    put_scores(made, [0.5] * 2)
    write_report(made, None)
    page = index(evaluated.root / "out")
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert set(links) == {"./javascript%3Aalert%281%29%23%3F%2522/report.html"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "<script>alert(1)</script>" in page.text
    text = (evaluated.root / "out" / "index.html").read_text()
    assert not {"\u202e", "\x1b"} & set(text)
    assert "default-src 'none'" in text


def test_runs_that_cant_be_read_are_named(evaluated: EvalBench) -> None:
    root = evaluated.root / "out"
    evaluated_run(evaluated, "out/good", rows([True] * 2))
    shutil.copytree(root / "good", root / "torn")
    shutil.copytree(root / "good", root / "odd")
    (root / "torn" / "run.json").write_text('{"name": ')
    (root / "odd" / "evaluation" / "metrics.json").write_text("[]")
    page = index(root)
    assert f"Can't be read: {root / 'torn' / 'run.json'}" in page.text
    assert f"Can't be read: {root / 'odd'}: its metrics" in page.text
    done = batchmix("report", str(root))
    assert done.returncode == 1
    assert done.stdout.strip() == str(root / "index.html")
    assert "torn" in done.stderr


def test_an_index_that_is_not_ours_and_a_folder_without_runs_are_refused(evaluated: EvalBench) -> None:
    made = evaluated_run(evaluated, "out/good", rows([True] * 2))
    mine = evaluated.root / "out" / "index.html"
    mine.write_text("<title>my page about batchmix</title>")
    with pytest.raises(RunError, match="was not written by batchmix"):
        write_index(evaluated.root / "out")
    assert mine.read_text() == "<title>my page about batchmix</title>"
    mine.unlink()
    assert batchmix("report", str(evaluated.root / "out")).returncode == 0
    assert batchmix("report", str(evaluated.root / "out"), "--against", str(made)).returncode == 2
    (evaluated.root / "empty").mkdir()
    assert batchmix("report", str(evaluated.root / "empty")).returncode == 2


def test_tries_and_runs_by_hand_are_no_nights_and_the_pinned_run_is_marked(tmp_path: Path, standin: Provider) -> None:
    nights_of_job = Nights(tmp_path, standin)
    nights_of_job.night("2026-01-01")
    nights_of_job.night("2026-01-02", right=5, limit=10)
    nights_of_job.night("2026-01-03", right=5, scheduled=False)
    pin(tmp_path / "nights", "bench", "2026-01-01")
    page = index(tmp_path)
    assert [state for state, _ in nights(page)] == ["no-baseline", "try", "try"]
    assert "1 job, 0 failed." in page.text
    titles = [str(attributes["title"]) for _, attributes in page.tags if "title" in attributes]
    assert any("2026-01-01; no baseline; the pinned baseline" in title for title in titles)
