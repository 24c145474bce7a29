"""Renders the HTML templates of this room, and writes pages. All values are escaped; no page has a script."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Any

import minijinja

from batchmix.errors import RunError
from batchmix.store.filesystem import is_ours, replace_file

_TEMPLATES = ("report.html", "page.html")
_OURS = b"batchmix</title>"
"""What is in each page that batchmix has written, and that it may write anew."""


def check_page(path: Path) -> None:
    """Raise `RunError` if there is a file at a page's path that batchmix did not write."""
    if not is_ours(path, lambda path: _OURS in path.read_bytes()):
        raise RunError(f"{path}: was not written by batchmix; move it away")


def write_page(path: Path, template: str, values: dict[str, Any], mode: int) -> None:
    """Render a template and write it as a page. Raises `RunError`."""
    check_page(path)
    page = _environment().render_template(template, **values).encode("utf-8", "replace")
    try:
        replace_file(path, page, mode)
    except OSError as error:
        raise RunError(f"{path}: can't be written: {error.strerror or error}") from error


@functools.cache
def _environment() -> minijinja.Environment:
    environment = minijinja.Environment(undefined_behavior="strict", auto_escape_callback=lambda _: "html", debug=False)
    for name in _TEMPLATES:
        environment.add_template(name, (resources.files("batchmix.evaluation") / name).read_text("utf-8"))
    return environment
