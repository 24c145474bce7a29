"""The recipes for Python, `jobs/python.py`, as the notebook `jobs/python.ipynb`.

`python -m tests.recipes` writes the notebook. The script is in cells that begin with `# %%`, as editors know them.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4

SCRIPT = Path(__file__).parent.parent / "jobs" / "python.py"
NOTEBOOK = SCRIPT.with_suffix(".ipynb")
_AWAITED = re.compile(r"\basyncio\.run\((\w+\(\))\)")
_KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def notebook_of(script: str) -> NotebookNode:
    """Return a script as a notebook, in which a loop already runs: it awaits what the script runs."""
    before, *blocks = re.split(r"^# %%(.*)\n", script, flags=re.M)
    assert not before, "the script begins with a cell"
    cells = []
    for number, (kind, text) in enumerate(zip(blocks[::2], blocks[1::2], strict=True)):
        if kind == " [markdown]":
            lines = (line.removeprefix("#").removeprefix(" ") for line in text.strip().splitlines())
            cells.append(v4.new_markdown_cell("\n".join(lines), id=f"cell-{number}"))
        else:
            assert not kind, kind
            cells.append(v4.new_code_cell(_AWAITED.sub(r"await \1", text.strip()), id=f"cell-{number}"))
    return v4.new_notebook(cells=cells, metadata=_KERNEL)


def notebook_text(notebook: NotebookNode) -> str:
    """Return what the file of a notebook holds."""
    return f"{nbformat.writes(notebook).rstrip()}\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook_text(notebook_of(SCRIPT.read_text())))
