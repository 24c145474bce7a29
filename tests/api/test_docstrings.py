"""The examples in the docstrings of the Python API are true, and each public name has one."""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest

import batchmix as bm
import batchmix.api

FILES = sorted(Path(batchmix.api.__path__[0]).glob("*.py"))
MODULES = sorted(
    {f"batchmix.api.{path.stem}" for path in FILES if ">>> " in path.read_text()}
    | {getattr(bm, name).__module__ for name in bm.__all__ if name != "__version__"}
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_are_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"text": "I loved it"}]
    run = bm.run(rows, "Classify: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:")
    names = {"bm": bm, "asyncio": asyncio, "contextlib": contextlib, "run": run}
    assert doctest.testmod(importlib.import_module(name), extraglobs=names, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("name", sorted({*bm.__all__} - {"__version__"}))
def test_each_public_name_and_method_is_documented_with_an_example(name: str) -> None:
    value: Any = getattr(bm, name)
    assert value.__doc__
    if isinstance(value, type) and issubclass(value, Exception):
        return
    assert ">>> " in value.__doc__
    if isinstance(value, type):
        members = [member for key, member in vars(value).items() if not key.startswith("_")]
        assert all(member.__doc__ for member in members if callable(member) or isinstance(member, property))


def test_the_public_names_are_few_and_imported_when_used() -> None:
    assert len(bm.__all__) <= 25
    assert {*bm.__all__} <= {*dir(bm)}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bm.nothing
