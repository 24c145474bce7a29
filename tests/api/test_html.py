"""How a run looks at the end of a notebook's cell, and in a script."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from batchmix.api.html import run_html, run_repr
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.errors import BudgetSpent
from batchmix.job import read_job
from batchmix.redact import Secrets

NASTY = "<script>alert('x')</script> & \x1b[2J\n" + "long " * 200


class Tables(HTMLParser):
    """The text of a page, and the cells of its tables, row by row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text = ""
        self.cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"div", "b", "table", "tr", "th", "td", "code"}
        assert {name for name, _ in attrs} <= {"style"}
        if tag == "tr":
            self.rows.append([])
        if tag in {"th", "td"}:
            self.rows[-1].append("")
            self.cell = True

    def handle_endtag(self, tag: str) -> None:
        self.cell = self.cell and tag not in {"th", "td"}

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.cell:
            self.rows[-1][-1] += data


def ran(root: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    """Run a job against the rehearsal provider, and return its folder."""
    root.mkdir(exist_ok=True)
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = {} if "models" in more else {"model": "m"}
    settings = {**model, "name": "tried", "input": {"path": str(root / "rows.jsonl"), "prompt": "Say {{ text }}"},
                "provider": {"base_url": "rehearsal:"}, "output": {"path": str(root / "run")}, **more}  # fmt: skip
    run_job(read_job(None, settings, {}), Secrets(), Options(reject_bad_rows=True), RunStatus())
    return root / "run"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows: list[dict[str, Any]] = [{"id": f"r{number}", "note": 1, "text": f"word {number}"} for number in range(20)]
    rows[1]["text"] = NASTY
    rows[2]["text"] = None
    prices = {"m": {"input": 1000.0, "output": 1000.0}}
    return ran(tmp_path_factory.mktemp("html"), rows, prices=prices)


def test_a_finished_run_shows_its_figures_five_rows_and_its_failures(folder: Path) -> None:
    page = Tables(run_html(folder))
    assert page.text.startswith("tried: finished, some rows have no answer")
    figures = dict(row for row in page.rows[:7])
    assert re.fullmatch(r"[\d,]+ in, [\d,]+ out", figures.pop("tokens"))
    assert re.fullmatch(r"\d\.\d s", figures.pop("time"))
    assert re.fullmatch(r"\$\d\.\d{4}", figures.pop("cost"))
    assert figures == {
        "rows": "20", "answers": "19 of 20 answered, 1 rejected", "model": "m", "folder": str(folder),
    }  # fmt: skip
    assert page.rows[7] == ["row", "text", "response"]
    assert [row[:2] for row in page.rows[8:13] if row[0] != "1"] == [
        ["0", "word 0"], ["2", ""], ["3", "word 3"], ["4", "word 4"],
    ]  # fmt: skip
    assert page.rows[10][2] == "rejected: bad_row"
    assert page.rows[13] == ["failures", "", "such as row", "message"]
    assert page.rows[14][:3] == ["bad_row", "1", "2"]
    assert len(page.rows) == 15
    assert "resume" not in page.text


def test_a_run_with_typed_answers_says_how_they_fared(tmp_path: Path) -> None:
    answer = {"schema": {"type": "object", "properties": {"mood": {"enum": ["good"]}}, "required": ["mood"]}}
    kinds = {"fenced": 3, "wrong_enum": 2, "wrong_enumx1": 4}
    rows = [{"text": f"[[rehearsal:{kind}]] {row}"} for kind, count in kinds.items() for row in range(count)]
    folder = ran(tmp_path / "typed", rows, answer=answer)
    assert ["checked", "0 valid at once, 3 healed, 6 repaired, 0 lost"] in Tables(run_html(folder)).rows
    assert not any(row[0] == "checked" for row in Tables(run_html(ran(tmp_path / "plain", rows))).rows)


def test_text_from_outside_is_escaped_and_cut(folder: Path) -> None:
    (row,) = [row for row in Tables(run_html(folder)).rows if row[0] == "1"]
    assert row[1].startswith("<script>alert('x')</script> & \\x1b[2J long long")
    assert row[1].endswith("…")
    assert len(row[1]) < 260  # an escape is longer than its character


def test_a_script_shows_a_run_on_one_line(folder: Path) -> None:
    assert re.fullmatch(
        rf"<Run {re.escape(str(folder))}: finished, some rows have no answer, "
        r"19 of 20 answered, 1 rejected, \$\d\.\d{4}>",
        run_repr(folder),
    )


def test_an_unfinished_run_says_how_to_go_on_and_several_models_are_named(tmp_path: Path) -> None:
    rows = [{"text": f"word {number}"} for number in range(50)]
    models = [{"id": "a"}, {"id": "b<i>"}]
    prices = {"a": {"input": 1000.0, "output": 1000.0}, "b<i>": {"input": 1000.0, "output": 1000.0}}
    with pytest.raises(BudgetSpent):
        ran(tmp_path / "it's", rows, models=models, prices=prices, params={"max_tokens": 10}, budget={"max_usd": 0.5})
    folder = tmp_path / "it's" / "run"
    page = Tables(run_html(folder))
    assert ["models", "a, b<i>"] in page.rows
    assert ["rows", "50 (100 results)"] in page.rows
    assert ["row", "text", "model", "response"] in page.rows
    assert page.text.startswith("tried: not finished; stopped at ")
    left = re.findall(r"To send the other (\d+) requests: bm\.open\((.*)\)\.go_on\(\), or in a shell (.*)", page.text)
    assert [(path, command) for _, path, command in left] == [
        (repr(str(folder)), "batchmix resume '" + str(folder).replace("'", "'\"'\"'") + "'")
    ]
    assert f", {left[0][0]} unanswered, $0." in run_repr(folder)


def test_a_folder_that_is_gone_is_named_without_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shown = Tables(run_html(tmp_path / "empty<b>")).text
    assert shown.startswith(f"{tmp_path}/empty<b>: ")
    assert run_repr(tmp_path / "empty").startswith(f"<Run {tmp_path}/empty: ")


def test_damage_does_not_keep_a_run_from_being_shown(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "data" / "part-00000.parquet").write_bytes(b"PAR1")
    assert Tables(run_html(copy)).text.startswith("tried: ")
