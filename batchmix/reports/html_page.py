"""Renders the HTML templates of this room, and writes pages. All values are escaped; no page has a script."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Any

import minijinja

from batchmix.errors import RunError
from batchmix.store.filesystem import is_ours, replace_file
from batchmix.store.run_folder import Layout

_TEMPLATES = ("report.html", "answers.html", "index.html", "page.html")
_OURS = " – batchmix</title>".encode()
"""What is in each page that batchmix has written, and that it may write anew."""


def is_page(path: Path) -> bool:
    """Return whether a page may be written at a path: nothing is there, or a page of batchmix."""
    return is_ours(path, lambda path: _OURS in path.read_bytes())


def check_page(path: Path) -> None:
    """Raise `RunError` if there is something else than a page of batchmix at a path."""
    if not is_page(path):
        raise RunError(f"{path}: was not written by batchmix; move it away")


def write_page(path: Path, template: str, values: dict[str, Any], layout: Layout) -> None:
    """Render a template and write it as a page, with the permissions of a run, and its secrets masked.

    Raises `RunError`.
    """
    check_page(path)
    page = _environment().render_template(template, **values).encode("utf-8", "replace")
    try:
        replace_file(path, layout.redacted(page), layout.file_mode)
    except OSError as error:
        raise RunError(f"{path}: can't be written: {error.strerror or error}") from error


@functools.cache
def _environment() -> minijinja.Environment:
    environment = minijinja.Environment(undefined_behavior="strict", auto_escape_callback=lambda _: "html", debug=False)
    for name in _TEMPLATES:
        environment.add_template(name, (resources.files("batchmix.reports") / name).read_text("utf-8"))
    return environment
