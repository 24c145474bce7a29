"""The part of a report with answers of one kind, and the page beside the report that has all of many answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from batchmix.formats.display import clean
from batchmix.reports.html_page import is_page, write_page
from batchmix.reports.report_answers import MAX_INLINE, Answers
from batchmix.store.run_folder import Layout


def answers_part(layout: Layout, name: str, title: str, found: Answers, how_to_get_all: str) -> dict[str, Any]:
    """Return the values of a part of the report. If it has too many answers, they are written to a page of their own.

    `name` is that of the part and of its page. `how_to_get_all` is said on the page if it can't have all of them
    either. Raises `RunError`.
    """
    path, many = layout.evaluation / f"{name}.html", found.count > MAX_INLINE
    part = {
        "title": title,
        "sections": [msgspec.to_builtins(section) for section in found.sections],
        "count": f"{found.count:,}",
        "missing_prompts": found.missing_prompts,
        "more": f"{found.held:,} of {found.count:,} are on this page. {how_to_get_all}"
        if many and found.held < found.count
        else "",
        "page": f"{layout.evaluation.name}/{path.name}" if many else "",
    }
    if many:
        layout.make_folder(layout.evaluation)
        write_page(path, "answers.html", {"part": part, "folder": _name_of(layout.root)}, layout)
    elif path.exists() and is_page(path):  # of an earlier report, which had more answers
        path.unlink()
    return part


def _name_of(folder: Path) -> str:
    return clean(folder.resolve().name, 100)
