"""The comparison with other libraries: its page has the scripts as they are, and its rounds count what happened."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks.peers.__main__ import DISTRIBUTIONS, script_of
from tests.benchmarks.peers.reviews import read_answers
from tests.benchmarks.peers.rounds import (
    Bounds,
    Script,
    faults,
    killed_round,
    refused_rows,
    requests_per_refused_row,
    whole_round,
)
from tests.benchmarks.peers.source_lines import SourceLines, count_lines
from tests.conftest import Provider
from tests.documents import blocks, page, tables

CLIENT = '''
"""Ask for one row after the other."""

import csv, json, os, pathlib, urllib.error, urllib.request

kept = pathlib.Path("kept.jsonl")
answers = dict(json.loads(line) for line in kept.read_text().splitlines()) if kept.exists() else {}
rows = list(csv.DictReader(open("reviews.csv")))
for row in rows:
    if row["id"] in answers:
        continue
    body = {"model": "m", "messages": [{"role": "user", "content": row["text"]}]}
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", json.dumps(body).encode())
    try:
        answer = json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]
    except urllib.error.HTTPError:
        answer = ""
    answers[row["id"]] = answer
    if KEEPS:
        with kept.open("a") as file:
            file.write(json.dumps([row["id"], answer]) + "\\n")
with open("answers.csv", "w") as file:
    writer = csv.writer(file)
    writer.writerow(["id", "text", "answer"])
    writer.writerows([row["id"], row["text"], answers[row["id"]]] for row in rows)
'''
BOUNDS = Bounds(rows=20, within_s=60)


def client(folder: Path, *, keeps: bool) -> Script:
    """Write a script that asks for one row after the other, and either keeps each answer or none."""
    path = folder / "client.py"
    path.write_text(CLIENT.replace("KEEPS", str(keeps)))
    return Script(path, sys.executable)


def test_an_undisturbed_round_has_all_answers_in_their_rows(tmp_path: Path, standin: Provider) -> None:
    standin.behave("echo=1")
    found = whole_round(client(tmp_path, keeps=False), standin.url, tmp_path, BOUNDS)
    assert (found.exit_code, found.others, sorted(found.requests)) == (0, 0, list(range(20)))
    assert found.answers.ids == list(range(20))
    assert found.answers.columns == ["id", "text", "answer"]
    assert (found.answers.answered, found.answers.wrong) == (set(range(20)), set())
    assert 0 < found.sending_s < found.seconds


@pytest.mark.parametrize("keeps", [True, False])
def test_a_killed_round_counts_the_answers_that_are_paid_again(tmp_path: Path, standin: Provider, keeps: bool) -> None:
    standin.behave("echo=1&latency=0.1")
    found = killed_round(client(tmp_path, keeps=keeps), standin.url, tmp_path, BOUNDS)
    assert (found.round.exit_code, found.round.answers.missing(range(20))) == (0, [])
    assert 9 <= found.answered < 20  # of the 10, those of the last 25 ms count as in flight
    assert found.in_flight <= 3
    if keeps:
        assert found.answered_again <= 1  # the script may be killed between an answer and its file
    else:
        assert (found.answered_again, found.in_flight_again) == (found.answered, found.in_flight)


def test_a_round_with_refusals_counts_them_by_row(tmp_path: Path, standin: Provider) -> None:
    standin.behave("echo=1&reject=0.3")
    found = whole_round(client(tmp_path, keeps=False), standin.url, tmp_path, BOUNDS)
    assert refused_rows(found) == set(range(20)) - found.answers.answered
    assert 0 < len(refused_rows(found)) < 20
    assert requests_per_refused_row(found) == 1
    assert faults(found)["reject"] == len(refused_rows(found))


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path, standin: Provider) -> None:
    standin.behave("hang=1")
    found = whole_round(client(tmp_path, keeps=False), standin.url, tmp_path, Bounds(rows=3, within_s=1))
    assert (found.exit_code, found.answers.ids) == (None, [])


def test_rows_that_are_missing_doubled_or_have_the_answer_of_another_row_are_found(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("id,answer\n2,Room 2: dull\n0,Room 1: warm\n2,Room 2: dull\n3,\n")
    found = read_answers(path)
    assert (found.missing(range(4)), found.doubled(), found.wrong, found.answered) == ([1], [2], {0}, {0, 2})


def test_lines_are_counted_without_blank_ones_comments_and_docstrings(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text('"""A\nscript."""\n\nimport a\nfrom b import (\n    c,\n)\n\n# why\nx = [  # what\n    1,\n]\n')
    assert count_lines(script) == SourceLines(code=3, imports=4)


def test_the_page_has_each_script_as_it_is_and_its_number_of_lines() -> None:
    shown = [*blocks(page("jobs/comparison.md"), "python"), *blocks(page("jobs/comparison.md"), "py")]
    scripts = {name: script_of(name).read_text().split("\n", 2)[2] for name in DISTRIBUTIONS}
    assert shown == list(scripts.values())
    (figures,) = [rows for heading, rows in tables(page("jobs/comparison.md")) if heading == "What was measured"]
    lines = next(row for row in figures if row[""] == "lines of code")
    assert {name.split()[0]: count for name, count in lines.items() if name} == {
        name: str(count_lines(script_of(name)).code) for name in DISTRIBUTIONS
    }
