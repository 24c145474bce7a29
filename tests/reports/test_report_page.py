"""The report is one well-formed page that loads nothing and runs no code from rows."""

from __future__ import annotations

import json
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchmix.comparison.examples import examples
from batchmix.comparison.run_diff import compare_runs
from batchmix.comparison.verdicts import Comparison
from batchmix.errors import RunError
from batchmix.reports.checks import compared_run_checks
from batchmix.reports.group_tables import group_tables
from batchmix.reports.markdown import markdown
from batchmix.reports.report_answers import changed_answers
from batchmix.reports.report_page import write_report
from batchmix.statistics.paired import compare
from tests.calling import batchmix
from tests.cli.test_eval import JOB, write
from tests.comparison.test_run_diff import evaluated_run, put_scores, rows
from tests.conftest import EvalBench, Provider
from tests.polling import wait_until

VOID = {"meta", "br", "link", "img"}
EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'>{{ 7 * 7 }} \u202e\x1b[31m"


class Page(HTMLParser):
    """Collects a page's tags and text, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self.open[-1] in {"tr", "td", "th", "p"} and self.open[-1] != tag:
            self.open.pop()
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report(run: Path, against: Path | None = None) -> Page:
    return Page(write_report(run, against).read_text())


def test_a_report_has_scores_models_differences_and_the_run(evaluated: EvalBench) -> None:
    made = [evaluated_run(evaluated, f"out/{name}", rows([True] * 8)) for name in ("first", "second")]
    put_scores(made[0], [1.0] * 8)
    put_scores(made[1], [0.0] * 7 + [1.0])
    page = report(made[1], made[0])
    for text in (
        "bench",
        "includes",
        "Score: includes",
        "Past runs: includes",
        "Change: includes",
        "Compared with",
        "Speed",
        "Latency",
        "Answers that changed",
        "The worst answers",
        "row 0 (r0)",
        "number 0",
        "Worse: m: includes -0.8750",
    ):
        assert text in page.text
    assert "no answer" in page.text
    assert "several samples" not in page.text.replace("where there are several samples", ""), "there is one only"
    assert {"svg", "path", "circle", "rect", "table"} <= {tag for tag, _ in page.tags}
    assert (made[1] / "report.html").stat().st_mode & 0o777 == 0o600


def test_nothing_from_a_row_or_an_answer_is_run_or_rendered(evaluated: EvalBench) -> None:
    evaluated.settings["models"] = [{"id": "m", "name": f"m{EVIL}"}]
    del evaluated.settings["model"]
    evaluated.settings["eval"]["group_by"] = ["group"]
    data: list[dict[str, Any]] = [
        {"id": EVIL, "said": f"{EVIL} {n}", "answer": EVIL if n else f"no {EVIL}", "group": EVIL} for n in range(4)
    ]
    made = [evaluated_run(evaluated, name, data) for name in ("first", "second")]
    put_scores(made[0], [1.0] * 4)
    put_scores(made[1], [0.0] * 4)
    page = report(made[1], made[0])
    assert not {"script", "img", "iframe", "a", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") or name in {"src", "href"} for name in attributes) or (
            attributes == {"rel": "icon", "href": "data:,"}
        )
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert not {"\u202e", "\x1b"} & set(page.text)


def test_a_run_without_an_evaluation_has_a_report_of_its_models(evaluated: EvalBench) -> None:
    evaluated.write_said(rows([True] * 3))
    evaluated.run()
    page = report(evaluated.out)
    assert "100.0%" in page.text
    assert "Scores" not in page.text
    with pytest.raises(RunError, match="batchmix eval"):
        report(evaluated.out, evaluated.out)
    evaluated.run()  # a folder with a report is still a run


def test_costs_and_later_starts_are_drawn(evaluated: EvalBench) -> None:
    evaluated.settings["models"] = [{"id": "m", "prices": {"input": 1.0, "output": 1.0}}, {"id": "free"}]
    del evaluated.settings["model"]
    evaluated.write_said(rows([True] * 6))
    evaluated.run(limit=2)
    assert "A dashed line" not in report(evaluated.out).text
    second = int(time.time())
    wait_until(lambda: time.time() >= second + 1)  # the times of starts are kept to the second
    evaluated.run()
    page = report(evaluated.out)
    assert "A dashed line marks a later start." in page.text
    assert "USD, at the prices in run.json." in page.text
    assert page.text.count("for 1,000)") == 1, "of two models one has a price"


def test_a_run_in_which_nothing_was_sent_has_a_report_without_times(evaluated: EvalBench) -> None:
    evaluated.source.write_text('{"id": "a", "answer": "x"}\n')
    evaluated.run(reject_bad_rows=True)
    page = report(evaluated.out)
    assert "Failures" in page.text
    assert not [title for title in ("Latency", "Speed", "Cost") if title in page.text]


def test_the_command_prints_the_path_of_the_report(evaluated: EvalBench) -> None:
    evaluated.write_said(rows([True] * 3))
    evaluated.run()
    done = batchmix("report", str(evaluated.out))
    assert done.stdout.strip() == str(evaluated.out / "report.html")
    assert batchmix("report", str(evaluated.root / "nothing")).returncode == 2


def test_the_answers_that_are_not_shown_at_once_are_folded_and_of_many_a_page_has_all(evaluated: EvalBench) -> None:
    made = [evaluated_run(evaluated, f"out/{name}", rows([True] * 230)) for name in ("first", "second")]
    put_scores(made[0], [1.0] * 230)
    put_scores(made[1], [0.0] * 23 + [1.0] * 207)
    page = report(made[1], made[0])
    assert "23 worse and 0 better; 3 of 23 shown; the others are folded below." in page.text
    assert "23 with a score below 1; 3 of 23 shown" in page.text
    assert page.text.count("row 22 (r22)") == 2, "each in its section"
    all_changed, all_low = (made[1] / "evaluation" / f"{name}.html" for name in ("changed-answers", "low-scores"))
    assert not all_changed.exists()

    put_scores(made[1], [0.0] * 230)
    page = report(made[1], made[0])
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == ["evaluation/changed-answers.html", "evaluation/low-scores.html"]
    for path in (all_changed, all_low):
        assert Page(path.read_text()).text.count("number 0") > 1
        assert "row 229 (r229)" in Page(path.read_text()).text
        assert path.stat().st_mode & 0o777 == 0o600
    assert "row 229 (r229)" not in page.text

    put_scores(made[1], [1.0] * 230)
    report(made[1], made[0])
    assert not all_changed.exists()
    all_low.write_text("my own notes")
    put_scores(made[1], [0.0] * 230)
    with pytest.raises(RunError, match=r"low-scores\.html: was not written by batchmix"):
        report(made[1], made[0])
    assert all_low.read_text() == "my own notes"


def test_the_prompt_stands_beside_an_answer_as_it_was_sent(evaluated: EvalBench) -> None:
    evaluated.settings["input"].pop("prompt")
    evaluated.settings["input"]["messages"] = [
        {"role": "system", "content": "Be terse: {{ said }}!"},
        {"role": "user", "content": [{"type": "text", "text": "[[rehearsal:echo]] <b>{{ said }}</b>"}]},
    ]
    run = evaluated_run(evaluated, "out/first", rows([False, True]))
    page = report(run)
    assert "Be terse: number 0!" in page.text
    assert "[[rehearsal:echo]] <b>number 0</b>" in page.text
    assert "Some prompts are not shown" not in page.text
    changed = rows([False, True])
    changed[0]["said"] = "other"
    evaluated.write_said(changed)
    page = report(run)
    assert "Be terse" not in page.text
    assert "Some prompts are not shown: the input or the job has changed since 1 of them were sent." in page.text
    evaluated.source.unlink()
    assert "Some prompts are not shown: the input can't be read any more:" in report(run).text


def test_a_rehearsed_run_is_called_so(evaluated: EvalBench) -> None:
    evaluated.write_said(rows([True]))
    evaluated.run()
    assert "rehearsed: the answers" not in report(evaluated.out).text
    evaluated.settings["provider"]["base_url"] = "rehearsal:"
    evaluated.out = evaluated.root / "rehearsed-run"
    evaluated.settings["output"]["path"] = str(evaluated.out)
    evaluated.run()
    assert "rehearsed: the answers are made up by" in report(evaluated.out).text


def test_what_could_not_be_compared_is_red_with_its_reason(evaluated: EvalBench) -> None:
    first = evaluated_run(evaluated, "out/first", rows([True] * 6))
    evaluated.settings["eval"]["scorers"] = [{"kind": "includes", "casefold": False}]
    second = evaluated_run(evaluated, "out/second", rows([True] * 6))
    text = write_report(second, first).read_text()
    assert '<p class="bad">Not compared: m: includes' in text
    assert '<td class="v bad">not compared</td>' in text
    assert '<td class="text bad" colspan="7">' in text
    assert "No guarded metric is significantly worse" not in text


def test_each_group_stands_beside_its_score_before_with_its_verdict(evaluated: EvalBench) -> None:
    evaluated.settings["eval"]["group_by"] = ["topic"]
    data = [{**row, "topic": f"t{n % 2}"} for n, row in enumerate(rows([True] * 8))]
    evaluated_run(evaluated, "out/first", data)
    metrics = evaluated.evaluate()
    paired = compare(np.ones(4), np.zeros(4), np.arange(4))
    groups = [Comparison("m", "score", "includes", paired, {"topic": "t1"}, verdict="worse")]
    (table,) = group_tables(metrics, groups)
    assert (table.column, table.models, table.compared) == ("topic", ["m"], True)
    assert [row["value"] for row in table.rows] == ["t0", "t1"]
    assert [row["cells"][0]["before"] for row in table.rows] == ["", "1.000"]
    assert [row["cells"][0]["verdict"] for row in table.rows] == ["", "worse"]


def test_a_report_has_the_verdict_of_the_run_and_compares_with_its_baseline(tmp_path: Path, standin: Provider) -> None:
    job = tmp_path / "job.toml"
    job.write_text(JOB.format(url=standin.url, root=tmp_path).replace("[eval]", '[eval]\nagainst = "last-good"'))
    write(tmp_path, right=20, wrong=0)
    for name, right in (("n1", 20), ("n2", 20), ("n3", 4)):
        write(tmp_path, right=right, wrong=20 - right)
        if name == "n3":
            job.write_text(job.read_text().replace('"[[rehearsal:echo]]', '"[[rehearsal:echo]] wrong'))
            (tmp_path / "rows.jsonl").write_text(
                "".join(json.dumps({"said": f"number {n}" if n < 4 else "?", "answer": f"number {n}"}) + "\n"
                        for n in range(20))
            )  # fmt: skip
        batchmix("run", str(job), "--out", str(tmp_path / "runs" / name))
    texts = {}
    for name in ("n1", "n2", "n3"):
        assert batchmix("report", str(tmp_path / "runs" / name)).returncode == 0
        texts[name] = Page((tmp_path / "runs" / name / "report.html").read_text()).text
    assert "Compared with" not in texts["n1"]
    assert "No baseline yet; this is the first run" in texts["n1"]
    assert "Baseline: n1 (last-good)" in texts["n2"]
    assert "No guarded metric is significantly worse" in texts["n2"]
    assert "Worse: m: includes -0.8" in texts["n3"]
    assert "Over the nights" in texts["n3"]
    assert "A dashed line marks a new dataset (D), or a new prompt, model or parameter (P)." in texts["n3"]
    shutil.rmtree(tmp_path / "runs" / "n1")
    batchmix("report", str(tmp_path / "runs" / "n2"))
    gone = Page((tmp_path / "runs" / "n2" / "report.html").read_text()).text
    assert "Baseline: n1 (last-good); it is not there any more" in gone

    batchmix("report", str(tmp_path / "runs"))
    index = Page((tmp_path / "runs" / "index.html").read_text())
    states = [str(attributes["class"]) for _, attributes in index.tags if "night" in str(attributes.get("class"))]
    assert states[:3] == ["nights", "night passed", "night failed"]
    assert "compared with n2 (last-good)" in index.text


def test_a_changed_prompt_is_shown_with_its_difference_and_beside_each_answer(evaluated: EvalBench) -> None:
    evaluated.settings["input"]["prompt"] = "Be terse.\n[[rehearsal:echo]] {{ said }}"
    made = [evaluated_run(evaluated, "out/first", rows([True] * 12))]
    evaluated.settings["input"]["prompt"] = (
        "Be <i>kind</i>.\n[[rehearsal:echo]] nothing{% if said == 0 %}{{ said }}{% endif %}"
    )
    evaluated.settings["params"] = {"temperature": 0.5}
    made.append(evaluated_run(evaluated, "out/second", rows([True] * 12)))
    text = write_report(made[1], made[0]).read_text()
    assert '<div class="bad">-Be terse.</div>' in text
    assert '<div class="good">+Be &lt;i&gt;kind' in text
    page = Page(text)
    assert "+Be <i>kind</i>." in page.text
    assert "12 results paired by custom_id and sample." in page.text
    assert "12 pairs with another request than before." in page.text
    assert "temperature of m differs" in page.text
    assert "the prompt as it was sent, before and after" in page.text
    assert "Worse: m: includes" in page.text
    diff = compare_runs(made[0], made[1])
    found = changed_answers(diff).sections[0].shown[0]
    assert [turn["text"] for turn in found["prompt"]] == ["Be <i>kind</i>.\n[[rehearsal:echo]] nothing"]
    outcome = markdown(compared_run_checks(diff), examples(diff, 1))
    assert "```diff\n" in outcome
    assert "+Be <i>kind</i>." in outcome


def test_runs_without_scores_are_compared_with_their_texts_side_by_side(evaluated: EvalBench) -> None:
    del evaluated.settings["eval"]
    for name in ("first", "second"):
        evaluated.out = evaluated.root / "out" / name
        evaluated.settings["output"]["path"] = str(evaluated.out)
        evaluated.write_said([{"id": f"r{n}", "said": f"{name} {n}"} for n in range(9)])
        evaluated.run()
    page = report(evaluated.root / "out/second", evaluated.root / "out/first")
    for part in ("Answers with another text", "6 of 9 shown", "row 0 (r0): another text", "first 8", "second 8"):
        assert part in page.text
