"""Imports point down only, and each library has its owner."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "batchmix"
LAYERS = [
    {"__main__"},
    {"cli"},
    {"evaluate", "schedule"},
    {"engine"},
    {"load", "pacing", "prices", "store"},
    {"http"},
    {"responses"},
    {"job"},
    {"formats"},
    {"redact"},
    {"records"},
    {"errors", "__init__"},
    {"rehearsal"},  # it plays the provider, so it imports nothing of the client
]
"""From top to bottom. A room imports from itself and from the layers below it, never from its neighbours."""
OWNERS = {
    "aiohttp": {"http/", "rehearsal/"},
    "click": {"cli/"},
    "cronsim": {"job/cron.py"},
    "minijinja": {"evaluate/report_page.py", "load/template"},
    "numpy": {"evaluate/"},
    "pyarrow": {"engine/reader.py", "evaluate/", "formats/", "load/", "store/"},
    "rapidfuzz": {"evaluate/scorers.py"},
    "regex": {"evaluate/scorers.py"},
    "tenacity": {"engine/retries.py"},
    "tqdm": {"cli/"},
}
FILES = sorted(ROOT.rglob("*.py"))


def layer(room: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def room_of(module: str) -> str:
    """Return the room of a module, by its path or by its name."""
    first = module.removeprefix("batchmix").strip("./").replace("/", ".").split(".")[0]
    return first if any(first in rooms for rooms in LAYERS) else "__init__"


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_and_each_library_has_its_owner(path: Path) -> None:
    inside = path.relative_to(ROOT)
    room = room_of(str(inside.with_suffix("")))
    for module in imported(path):
        library = module.partition(".")[0]
        if library == "batchmix":
            other = room_of(module)
            assert other == room or layer(other) > layer(room), f"{inside} imports {module}"
        if library in OWNERS:
            assert any(str(inside).startswith(owner) for owner in OWNERS[library]), f"{inside} imports {module}"


def test_every_room_has_its_layer() -> None:
    rooms = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES}
    assert rooms == set().union(*LAYERS)
