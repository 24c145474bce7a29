"""Count the lines of a script that are code."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple


class SourceLines(NamedTuple):
    """The lines of a script without blank lines, comments and docstrings."""

    code: int
    """Without imports."""
    imports: int


def count_lines(script: Path) -> SourceLines:
    """Count the lines of a script that are code, and those that are imports."""
    tree = ast.parse(script.read_text())
    kept = {
        number
        for number, line in enumerate(script.read_text().splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    }
    imports = set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= _span(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            kept -= _span(node)
    return SourceLines(len(kept - imports), len(imports))


def _span(node: ast.stmt) -> set[int]:
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
