"""Imports point down only, and each library has its owner."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "batchmix"
LAYERS = [
    {"__main__"},
    {"cli"},
    {"api"},
    {"progress", "reports", "schedule", "tables"},
    {"verdict"},
    {"comparison"},
    {"evaluation"},
    {"engine"},
    {"load", "pacing", "prices", "store"},
    {"http"},
    {"responses"},
    {"job"},
    {"scorers"},
    {"answers"},
    {"statistics"},
    {"remote"},
    {"formats"},
    {"redact"},
    {"records"},
    {"errors"},
    {"__init__"},
    {"rehearsal"},  # it plays the provider, so it imports nothing of the client
]
"""From top to bottom. A room imports from itself and from the layers below it, never from its neighbours.

`__init__` has the version, and hands out the names of `api` without importing them."""
OWNERS = {
    "aiohttp": {"http/", "rehearsal/"},
    "click": {"cli/"},
    "duckdb": {"load/query_process.py"},
    "cronsim": {"job/cron.py"},
    "genai_prices": {"prices/genai_prices.py"},
    "jsonschema_rs": {"answers/"},
    "math_verify": {"scorers/mathematics.py"},
    "minijinja": {"reports/html_page.py", "load/template"},
    "msgspec": {""},
    "obstore": {"remote/"},
    "deltalake": {"store/"},
    "multidict": {"http/"},
    "numpy": {"comparison/", "evaluation/", "reports/", "statistics/", "verdict/"},
    "pandas": {"api/", "tables/"},
    "polars": {"api/", "tables/"},
    "pyarrow": {
        "answers/",
        "api/",
        "comparison/",
        "reports/",
        "verdict/",
        "tables/",
        "engine/reader.py",
        "evaluation/",
        "formats/",
        "load/",
        "store/",
    },
    "rapidfuzz": {"scorers/texts.py"},
    "regex": {"scorers/texts.py"},
    "text_to_num": {"scorers/number_words.py"},
    "tenacity": {"engine/retries.py"},
    "tomli_w": {"job/toml_text.py"},
    "tqdm": {"progress/"},
    "uvloop": {"engine/send.py", "rehearsal/server.py"},
    "xxhash": {"load/digests.py", "store/line_checksum.py"},
    "yarl": {"http/"},
}
"""The paths that may import each library. Only msgspec is for all."""
CUSTOM_CODE = {("answers/model.py", "module"), ("evaluation/custom_process.py", "module")}
"""Import the module of a user's model or scorer, in a process of its own. No other module's name is in a variable."""
FILES = sorted(ROOT.rglob("*.py"))


def layer(room: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def room_of(module: str) -> str:
    """Return the room of a module, by its path or by its name."""
    first = module.removeprefix("batchmix").strip("./").replace("/", ".").split(".")[0]
    return first if any(first in rooms for rooms in LAYERS) else "__init__"


def imported(source: str, package: str) -> Iterator[str]:
    """Yield the full names of all that a module of `package` imports, also inside functions and by `import_module`.

    Of a name that is put together, this is the part before the first `{`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            name = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            yield str(name.value) if isinstance(name, ast.Constant) else ast.unparse(name)


def test_every_form_of_import_is_seen() -> None:
    source = """
def late():
    from . import sse
    from ..engine import pool
    import tqdm.auto
    importlib.import_module("aiohttp")
    import_module(f"batchmix.cli.{name}")
    importlib.import_module(module)
"""
    assert list(imported(source, "batchmix.responses")) == [
        "batchmix.responses.sse", "batchmix.engine.pool", "tqdm.auto", "aiohttp", "batchmix.cli.", "module",
    ]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_and_each_library_has_its_owner(path: Path) -> None:
    inside = path.relative_to(ROOT)
    room = room_of(str(inside.with_suffix("")))
    hands_out = {"api", "errors"} if room == "__init__" else set[str]()
    for module in imported(path.read_text(), ".".join(path.relative_to(ROOT.parent).parent.parts)):
        library = module.partition(".")[0]
        if library == "batchmix":
            other = room_of(module)
            assert other == room or layer(other) > layer(room) or other in hands_out, f"{inside} imports {module}"
        elif library not in sys.stdlib_module_names and (str(inside), module) not in CUSTOM_CODE:
            assert any(str(inside).startswith(owner) for owner in OWNERS[library]), f"{inside} imports {module}"


def test_every_room_has_its_layer() -> None:
    rooms = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES}
    assert rooms == set().union(*LAYERS)


def attributes_set(path: Path) -> Iterator[tuple[str, bool, int]]:
    """Yield each attribute that a module sets, whether on `self` (or in a class body), and the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, True, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.attr, isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}, node.lineno


def test_no_room_sets_attributes_of_another_rooms_objects() -> None:
    """By name: an attribute that is set on another object than `self` belongs to a class of the same room."""
    rooms = [(path, room_of(str(path.relative_to(ROOT).with_suffix("")))) for path in FILES]
    owners: dict[str, set[str]] = {}
    for path, room in rooms:
        for name, own, _ in attributes_set(path):
            if own:
                owners.setdefault(name, set()).add(room)
    foreign = [
        f"{path.relative_to(ROOT)}:{line}: sets .{name} of {'/'.join(sorted(owners[name]))}; use a method"
        for path, room in rooms
        for name, own, line in attributes_set(path)
        if not own and room not in owners.get(name, {room}) and not name.startswith("_")  # ruff refuses private ones
    ]
    assert foreign == []


def test_no_class_and_no_public_function_has_the_name_of_another() -> None:
    """Not even with an underscore in front, for classes. Each command has its `command`, and each program its `main`."""
    classes, functions = list[str](), list[str]()
    for path in FILES:
        tree = ast.parse(path.read_text())
        classes += [node.name.lstrip("_") for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        functions += [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    public = [name for name in functions if not name.startswith("_") and name not in {"command", "main"}]
    assert [name for names in (classes, public) for name, count in Counter(names).items() if count > 1] == []
