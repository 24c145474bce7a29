"""The outcome of an evaluation as JUnit XML and as Markdown: complete, valid, and without markup from names and answers."""

from __future__ import annotations

import html
from pathlib import Path
from xml.etree import ElementTree

import hypothesis
import hypothesis.strategies as st
import pytest
from markdown_it import MarkdownIt

from batchmix.comparison.alarms import Alarm, comparison_alarms
from batchmix.comparison.examples import Example, examples
from batchmix.comparison.run_diff import Diff, compare_runs
from batchmix.comparison.verdicts import Comparison
from batchmix.reports.checks import (
    Check,
    CheckedRun,
    answered_check,
    checked_run,
    compared_run_checks,
    stopped_check,
)
from batchmix.reports.junit import junit_xml
from batchmix.reports.markdown import code, code_block, markdown, sentence, table
from batchmix.statistics.paired import compare
from tests.comparison.test_run_diff import evaluated_run, put_scores, rows
from tests.conftest import EvalBench

EVIL = "<b>x</b> | `code` ``` @team [a](http://b.example) www.c.example *em* $x$ \x1b[31m\x00 \ud800 \uffff \u202e"
SUITE = {"name", "package", "id", "tests", "failures", "errors", "time", "timestamp", "hostname"}
"""The attributes of a suite that are required, or allowed, by both schemas that are in use."""


def a_diff(comparisons: tuple[Comparison, ...], alarms: tuple[Alarm, ...], groups: tuple[Comparison, ...] = ()) -> Diff:
    return Diff("runs/a", "runs/b", 20, 0, 0, ("a reason",), comparisons, (), (), groups, alarms=alarms)


def paired(before: list[float], after: list[float]) -> Comparison:
    import numpy as np

    return Comparison("m", "score", "s", compare(np.array(before), np.array(after), np.arange(len(before))))


def test_each_guarded_metric_is_a_test_case_and_fails_with_its_reason() -> None:
    same = paired([1.0, 0.0], [1.0, 0.0])
    one = Comparison("m", "answered", "", same.paired, verdict="same")
    worse = Comparison("m", "score", "s", paired([1.0] * 20, [0.0] * 20).paired, verdict="worse")
    group = Comparison("m", "score", "s", worse.paired, {"topic": "algebra"}, verdict="worse")
    untested = Comparison("k", "score", "s", None, verdict="not compared", reason="the scorer has changed since")
    unguarded = Comparison("m", "latency_s", "", same.paired)
    trend = Alarm("trend", "m", "score", "s", {}, "m: s has been falling for 12 nights")
    alarms = (*comparison_alarms([one, worse, untested, group]), trend)
    diff = a_diff((one, worse, untested, unguarded), alarms, (group,))
    run = checked_run(Path("runs/b"), None, diff, alarms, [answered_check(0), answered_check(3)])
    assert [(check.model, check.name, check.failure, check.kind) for check in run.checks] == [
        ("", "each row has an answer", "", ""),
        ("", "each row has an answer", "3 results without an answer", "rows"),
        ("m", "answered not worse than before", "", ""),
        ("m", "s not worse than before", "worse: -1.0000, from 1.0000 to 0.0000", "worse"),
        ("k", "s not worse than before", "not compared: the scorer has changed since", "not compared"),
        ("m", "s of topic = algebra not worse than before", "worse: -1.0000, from 1.0000 to 0.0000", "worse"),
        ("m", "trend: s", "m: s has been falling for 12 nights", "trend"),
    ]
    suites = list(ElementTree.fromstring(junit_xml(run)))
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in suites] == [
        ("b", "2", "1"),
        ("b: m", "4", "3"),
        ("b: k", "1", "1"),
    ]
    failures = [failure.attrib for suite in suites for failure in suite.iter("failure")]
    assert [(one["type"], one["message"]) for one in failures][1] == ("worse", "worse: -1.0000, from 1.0000 to 0.0000")
    text = markdown(run)
    for part in (
        "🔴 5 checks of 7 failed",
        "- **not compared**: `k`: s: the scorer has changed since",
        "- **trend**: `m`: s has been falling for 12 nights",
        "- **rows**: 3 results without an answer",
        "| 🔴 worse | `m` | `s of topic = algebra` |",
    ):
        assert part in text


def test_a_real_comparison_has_all_of_its_failures(evaluated: EvalBench) -> None:
    made = [evaluated_run(evaluated, name, rows([True] * 20)) for name in ("first", "second")]
    put_scores(made[0], [1.0] * 20)
    put_scores(made[1], [0.0] * 20)
    diff = compare_runs(*made)
    run = compared_run_checks(diff)
    assert [(check.model, check.kind) for check in run.failures] == [("m", "worse")]
    assert {check.name for check in run.checks} >= {
        "includes not worse than before",
        "answered not worse than before",
        "unscored by includes at most 0.1",
    }
    text = markdown(run, examples(diff, 2))
    assert "<summary>row 0: 1 → 0</summary>" in text
    assert "[[rehearsal:echo]] number 0" in text
    assert "`includes` | 1.0000 | 0.0000 | -1.0000" in text


@hypothesis.given(st.lists(st.text(max_size=30), min_size=4, max_size=4))
@hypothesis.example([EVIL] * 4)
def test_junit_xml_is_valid_whatever_the_names(texts: list[str]) -> None:
    checks = (Check(texts[0], texts[1], texts[2], "worse"), Check(texts[0], "fine"), stopped_check(texts[3]))
    xml = junit_xml(CheckedRun(Path(f"runs/{texts[3]}".replace("\0", "")), texts[1], checks))
    root = ElementTree.fromstring(xml)
    assert root.tag == "testsuites"
    assert not root.attrib
    for suite in root:
        assert set(suite.attrib) == SUITE
        assert [child.tag for child in suite if child.tag != "testcase"] == ["properties", "system-out", "system-err"]
        assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))
        failed = [child.tag for case in suite.iter("testcase") for child in case]
        assert (int(suite.attrib["failures"]), int(suite.attrib["errors"])) == (
            failed.count("failure"),
            failed.count("error"),
        )
        for case in suite.iter("testcase"):
            assert set(case.attrib) == {"name", "classname", "time"}
    assert not any(ord(letter) < 32 and letter != "\n" for letter in xml.decode())


@hypothesis.given(st.text(max_size=80))
@hypothesis.example(EVIL)
@hypothesis.example("<img src=x onerror=alert(1)>")
@hypothesis.example("`" * 5 + "|")
@hypothesis.example("-")
@hypothesis.example("12. x")
@hypothesis.example("---")
@hypothesis.example("     four spaces")
def test_names_sentences_and_answers_render_as_text_only(text: str) -> None:
    source = "\n".join(
        [*table(("a", "b"), [(code(text), sentence(text))]), code_block(text), "", f"- {sentence(text)}"]
    )
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = parser.parse(source)
    kinds = [token.type for token in tokens if token.type not in {"inline", "paragraph_open", "paragraph_close"}]
    kinds = [kind for kind in kinds if not kind.startswith(("table", "thead", "tbody", "tr_", "th_", "td_"))]
    assert kinds == [
        "fence",
        "bullet_list_open",
        "list_item_open",
        "list_item_close",
        "bullet_list_close",
    ]
    inside = {child.type for token in tokens for child in token.children or ()}
    assert inside <= {"text", "code_inline", "text_special"}
    rendered = parser.render(source)
    assert rendered.count("<td>") == 2
    if text.isprintable() and text.strip() == text and text and "\\|" not in text:
        assert html.escape(text, quote=False).replace('"', "&quot;") in rendered


def test_a_mention_in_a_name_notifies_nobody() -> None:
    assert sentence("ask @team about #12") == "ask `@`team about \\#12"


@pytest.fixture
def an_example(evaluated: EvalBench) -> Example:
    made = [evaluated_run(evaluated, name, [{"id": EVIL, "said": EVIL, "answer": "x"}]) for name in ("a", "b")]
    put_scores(made[0], [1.0])
    put_scores(made[1], [0.0])
    return examples(compare_runs(*made), 1)[0]


def test_an_answer_with_markup_stays_in_its_block(an_example: Example) -> None:
    text = markdown(CheckedRun(Path("runs/x"), "x", ()), [an_example])
    assert "````text" in text
    rendered = MarkdownIt("commonmark", {"html": True}).render(text)
    assert "<b>" not in rendered.replace("<details>", "").replace("<summary>", "")
    assert "\x1b" not in text
