"""The documentation as data: its pages, their tables, code blocks and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "jobs" / "README.md"]
PAGES += sorted(set((ROOT / "jobs").glob("*.md")) - set(PAGES))
PAGES += [ROOT / "batchmix" / "README.md", ROOT / "tests" / "README.md"]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def page(name: str) -> str:
    """Return the text of a page, by its path in the repository."""
    return (ROOT / name).read_text()


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks in a language; `""` returns those that name none."""
    return [code for found, code in _BLOCK.findall(text) if found == language]


def without_blocks(text: str) -> str:
    """Return a page without its code blocks."""
    return _BLOCK.sub("", text)


def tables(text: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the heading above each table, and the table's rows as dictionaries by column name."""
    heading, rows = "", list[list[str]]()
    for line in [*without_blocks(text).splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if rows:
            yield heading, [dict(zip(rows[0], cells, strict=True)) for cells in rows[2:]]
            rows = []
        if line.startswith("#"):
            heading = line.lstrip("# ")


def table(name: str, *columns: str, heading: str | None = None) -> list[dict[str, str]]:
    """Return the one table of a page whose first columns have these names."""
    found = [
        rows
        for under, rows in tables(page(name))
        if list(rows[0])[: len(columns)] == list(columns) and heading in (None, under)
    ]
    assert len(found) == 1, f"{name} has {len(found)} tables with the columns {columns} under {heading}"
    return found[0]


def quoted(cell: str) -> list[str]:
    """Return the texts in back-quotes."""
    return re.findall(r"`([^`]+)`", cell)


def links(text: str) -> list[str]:
    """Return the targets of all links within the repository."""
    return [target for target in _LINK.findall(without_blocks(text)) if "://" not in target]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub builds them."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
