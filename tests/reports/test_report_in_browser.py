"""The report in a real browser: it loads nothing, logs nothing, is fast, and nothing overlaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchmix.reports import answers_page
from batchmix.reports.index_page import write_index
from batchmix.reports.report_page import write_report
from tests.browser import Browser, browser, file_url, needs_browser
from tests.comparison.test_run_diff import evaluated_run, put_scores
from tests.conftest import EvalBench

pytestmark = needs_browser
EVIL = (
    "<script>window.hit=1</script>",
    "\"'><img src=x onerror=window.hit=1>",
    "</style></title></svg><script>window.hit=1</script>",
    "javascript:window.hit=1",
    "[link](javascript:window.hit=1) <a href='javascript:window.hit=1'>x</a>",
    "\u202egnp.exe\u2066\u2069",
    "\x1b[2J\x07\x00\x7f",
    "\ud800 lone",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp;",
    "漢字かな交じり文" * 12,
    "W" * 300,
)
CLASHES = """
(() => {
  const found = [];
  for (const svg of document.querySelectorAll("figure > svg")) {
    const edge = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((e) => [e.textContent, e.getBoundingClientRect()]);
    texts.forEach(([one, a], number) => {
      if (a.left < edge.left - 1 || a.right > edge.right + 1 || a.bottom > edge.bottom + 4) found.push(`outside: ${one}`);
      for (const [other, b] of texts.slice(number + 1)) {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 1 && high > 4) found.push(`${one} over ${other}`);
      }
    });
  }
  return found;
})()
"""
"""Texts in charts that overlap or lie outside the drawing."""


@pytest.fixture
def evil(evaluated: EvalBench) -> tuple[Path, Path]:
    """Two runs with hostile text in rows, answers, models and groups."""
    evaluated.settings["models"] = [
        {"id": "m", "name": f"m{EVIL[0]}"},
        {"id": "k", "name": EVIL[10]},
        {"id": "w", "name": EVIL[11]},
    ]
    del evaluated.settings["model"]
    evaluated.settings["eval"]["group_by"] = ["group"]
    data: list[dict[str, Any]] = [
        {"id": f"{n} {text}", "said": text, "answer": text, "group": text} for n, text in enumerate(EVIL)
    ]
    made = [evaluated_run(evaluated, f"out/{name}", data) for name in ("first", "second")]
    put_scores(made[0], [1.0] * 36)
    put_scores(made[1], [0.0] * 36)
    return made[0], made[1]


async def overflow(page: Browser) -> float:
    width: float = await page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


async def test_the_report_opens_at_once_and_loads_and_runs_nothing(evil: tuple[Path, Path]) -> None:
    path = write_report(evil[1], evil[0])
    async with browser() as page:
        await page.open(file_url(path))
        assert [url for url in page.requested_urls if not url.startswith("data:")] == [file_url(path)]
        assert page.log == []
        assert await page.value("document.querySelectorAll('script, img, iframe, object, embed, a, form').length") == 0
        assert await page.value("typeof window.hit") == "undefined"
        text: str = await page.value("document.body.innerText")
    for shown in ("<script>window.hit=1</script>", "{{ 7 * 7 }}", "&lt;b&gt; &amp;", "\\u202egnp.exe", "\\x1b[2J"):
        assert shown in text
    assert not {"\u202e", "\u2066", "\x1b", "\x07"} & set(text)
    assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize("width", [390, 1280])
async def test_nothing_overlaps_and_nothing_is_cut_off(width: int, evil: tuple[Path, Path]) -> None:
    path = write_report(evil[1], evil[0])
    async with browser() as page:
        await page.open(file_url(path))
        await page.narrow(width)
        assert await page.value(CLASHES) == []
        assert await overflow(page) == 0
        light = await page.value("getComputedStyle(document.body).backgroundColor")
        await page.narrow(width, dark=True)
        assert await page.value("getComputedStyle(document.body).backgroundColor") != light


@pytest.mark.parametrize("width", [390, 1280])
async def test_the_index_and_the_page_of_all_answers_fit_and_load_nothing(
    width: int, evil: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_page, "MAX_INLINE", 3)
    write_report(evil[1], evil[0])
    index, _ = write_index(evil[1].parent)
    answers = evil[1] / "evaluation" / "changed-answers.html"
    async with browser() as page:
        for path in (index, answers):
            page.requested_urls.clear()
            await page.open(file_url(path))
            await page.narrow(width)
            assert await overflow(page) == 0
            assert [url for url in page.requested_urls if not url.startswith("data:")] == [file_url(path)]
            assert page.log == []
            assert await page.value("typeof window.hit") == "undefined"
            assert await page.value("document.querySelectorAll('script, img, iframe, form').length") == 0


async def test_a_table_that_scrolls_shows_it_at_its_edge(evil: tuple[Path, Path]) -> None:
    path = write_report(evil[1], evil[0])
    async with browser() as page:
        await page.open(file_url(path))
        await page.narrow(390)
        shades = await page.value(
            "[...document.querySelectorAll('.wide')].filter((e) => e.scrollWidth > e.clientWidth)"
            ".map((e) => getComputedStyle(e).backgroundAttachment)"
        )
        assert shades
        assert set(shades) == {"local, local, scroll, scroll"}


async def test_the_check_for_overlaps_finds_one(tmp_path: Path) -> None:
    text = '<text x="5" y="20">one</text><text x="10" y="22">two</text><text x="95" y="60">outside</text>'
    (tmp_path / "page.html").write_text(f'<figure><svg width="100" height="80">{text}</svg></figure>')
    async with browser() as page:
        await page.open(file_url(tmp_path / "page.html"))
        assert await page.value(CLASHES) == ["one over two", "outside: outside"]
