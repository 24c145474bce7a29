"""--junit and --markdown: written by run, eval and diff, whatever the outcome, and over nothing that is not ours."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.calling import batchmix, called, refused
from tests.cli.test_eval import job, worsen, write
from tests.conftest import Provider

__all__ = ["job"]


def failures(path: Path) -> list[tuple[str, str]]:
    """Return the failed test cases of a file: the kind of each, and its message."""
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return [(found.attrib["type"], found.attrib["message"]) for case in cases for found in case]


def test_a_run_and_its_evaluation_write_what_failed(job: Path) -> None:
    junit, markdown = job.parent / "junit.xml", job.parent / "outcome.md"
    files = ("--junit", str(junit), "--markdown", str(markdown))
    done = batchmix("run", str(job), *files)
    assert done.returncode == 0, done.stderr
    assert "includes" in done.stdout
    assert failures(junit) == []
    assert "## `night`: 🟢 passed" in markdown.read_text()

    guard = 'eval.guards=[{scorer = "includes", min = 0.8}]'
    assert batchmix("eval", str(job.parent / "runs/night"), "--set", guard, *files).returncode == 1
    assert failures(junit) == [("missed", "m: includes is 0.75, less than 0.8")]
    assert "- **missed**: `m`: includes is 0.75, less than 0.8" in markdown.read_text()
    printed = batchmix("eval", str(job.parent / "runs/night"), "--set", guard, "--markdown", "-")
    assert printed.stdout == markdown.read_text()


def test_a_diff_writes_what_is_worse_and_prints_markdown_alone(job: Path) -> None:
    write(job.parent, right=20, wrong=0)
    for name in ("a", "b"):
        batchmix("run", str(job), "--out", str(job.parent / name))
    worsen(job.parent / "b")
    call = ("diff", str(job.parent / "a"), str(job.parent / "b"), "--junit", str(job.parent / "junit.xml"))
    done = batchmix(*call, "--markdown", "-")
    assert done.returncode == 1, done.stderr
    assert [kind for kind, _ in failures(job.parent / "junit.xml")] == ["worse"]
    assert done.stdout.startswith("<!-- batchmix -->\n## `night`: 🔴 1 check of ")
    assert "- **worse**: `m`: includes -" in done.stdout
    refused(batchmix(*call, "--markdown", "-", "--json"), "both print to standard output")


def test_rows_without_an_answer_and_a_stopped_run_are_failures(job: Path, standin: Provider) -> None:
    junit = job.parent / "junit.xml"
    lines = (job.parent / "rows.jsonl").read_text().splitlines()
    (job.parent / "rows.jsonl").write_text("\n".join([*lines, '{"answer": "x"}']) + "\n")
    done = batchmix("run", str(job), "--bad-rows", "reject", "--junit", str(junit), "--set", "eval=null")
    assert done.returncode == 1, done.stderr
    assert failures(junit) == [("rows", "1 result without an answer")]
    standin.behave("balance=0")
    stopped = batchmix(
        "run", str(job), "--out", str(job.parent / "other"), "--bad-rows", "reject", "--junit", str(junit)
    )
    assert stopped.returncode == 3, stopped.stderr
    (found,) = failures(junit)
    assert found[0] == "stopped"
    assert "the run stopped early" in found[1]


@pytest.mark.parametrize(
    ("junit", "markdown", "message"),
    [
        ("same.x", "./same.x", "same.x: is named by --junit and by --markdown; name two files"),
        ("-", "-", "--junit -: the XML is not printed; name a file"),
        ("-", "outcome.md", "--junit -: the XML is not printed; name a file"),
    ],
)
def test_one_place_for_two_files_is_refused(
    junit: str, markdown: str, message: str, job: Path, monkeypatch: pytest.MonkeyPatch, standin: Provider
) -> None:
    monkeypatch.chdir(job.parent)
    before = sorted(job.parent.iterdir())
    refused(called(monkeypatch, "run", str(job), "--junit", junit, "--markdown", markdown), message)
    assert sorted(job.parent.iterdir()) == before
    assert standin.request_count() == 0


@pytest.mark.parametrize("option", ["--junit", "--markdown"])
def test_a_file_that_is_not_ours_is_refused_before_anything_is_sent(option: str, job: Path, standin: Provider) -> None:
    mine = job.parent / "mine"
    mine.write_text("my own words")
    refused(batchmix("run", str(job), option, str(mine)), f"{mine}: was not written by batchmix")
    assert mine.read_text() == "my own words"
    link = job.parent / "link"
    link.symlink_to(job.parent / "elsewhere")
    refused(batchmix("run", str(job), option, str(link)), "was not written by batchmix")
    refused(batchmix("run", str(job), option, str(job.parent / "none" / "x")), "there is no folder")
    assert standin.request_count() == 0
    mine.write_text("")
    assert batchmix("run", str(job), option, str(mine)).returncode == 0, "an empty file, as a CI system makes it"
    assert "night" in mine.read_text()
    write(job.parent, right=15, wrong=5)
