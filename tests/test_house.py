"""Imports point down only, and each library has its owner."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "batchmix"
MAY = {
    "cli": {
        "amounts",
        "loose_json",
        "memory",
        "canary",
        "sampling",
        "cli",
        "schedule",
        "signals",
        "evaluate",
        "eval_table",
        "pace",
        "pipeline",
        "reading",
        "planning",
        "rehearsal",
        "send",
        "store",
        "records",
        "errors",
        "job",
        "redact",
        "",
    },
    "evaluate": {
        "amounts",
        "loose_json",
        "arrow_values",
        "texts",
        "evaluate",
        "planning",
        "send",
        "pipeline",
        "pricing",
        "reading",
        "rubrics",
        "arrow",
        "load",
        "store",
        "records",
        "errors",
        "job",
        "eval_table",
        "redact",
        "",
    },
    "pipeline": {
        "arrow",
        "balance",
        "canary",
        "holding",
        "planning",
        "preparing",
        "sending",
        "signals",
        "starts",
        "send",
        "store",
        "resume",
        "records",
        "errors",
        "job",
        "redact",
    },
    "missing": {"store", "errors", "job"},
    "preparing": {
        "load",
        "stopping",
        "missing",
        "pricing",
        "resume",
        "rehearsal",
        "rubrics",
        "send",
        "store",
        "records",
        "errors",
        "job",
    },
    "rubrics": {"load", "job", "eval_table", "errors"},
    "sending": {
        "lanes",
        "pace",
        "preparing",
        "pricing",
        "stopping",
        "rehearsal",
        "send",
        "store",
        "records",
        "job",
        "redact",
    },
    "stopping": {"send", "signals", "records", "errors", "job"},
    "starts": {"resume", "send", "signals", "store", "records", "errors"},
    "balance": {"amounts", "preparing", "send", "job", "redact"},
    "holding": {"load", "store", "errors"},
    "signals": {"errors"},
    "planning": {
        "balance",
        "distinct",
        "holding",
        "loose_json",
        "preparing",
        "redact",
        "send",
        "store",
        "records",
        "job",
    },
    "canary": {"distinct", "load", "send", "store", "resume", "sampling", "records", "job"},
    "pace": {"store", "records", "errors"},
    "sampling": set(),
    "distinct": set(),
    "pricing": {"send", "store", "job", "errors"},
    "schedule": {"schedule", "signals", "store", "records", "errors", "job", "cron", ""},
    "reading": {"endpoints", "arrow", "redact", "load", "send", "store", "resume", "records", "errors", "job"},
    "lanes": {"dedupe", "load", "send", "store", "records", "errors", "job"},
    "dedupe": {"send", "store", "records"},
    "resume": {"amounts", "load", "missing", "store", "records", "errors", "job"},
    "load": {"arrow_fit", "arrow_values", "endpoints", "iso_times", "load", "texts", "records", "errors", "job"},
    "send": {"amounts", "endpoints", "loose_json", "send", "records", "errors", "job", "redact", ""},
    "store": {"arrow", "arrow_fit", "arrow_values", "loose_json", "texts", "store", "records", "errors", "job", ""},
    "rehearsal": {"rehearsal"},
    "redact": {"job", "errors"},
    "job": {"job", "cron", "errors", "eval_table"},
    "cron": {"errors"},
    "eval_table": {"errors"},
    "records": {"errors"},
    "errors": set(),
    "amounts": set(),
    "arrow": set(),
    "endpoints": set(),
    "loose_json": set(),
    "arrow_fit": {"arrow", "arrow_values"},
    "arrow_values": {"arrow", "iso_times", "texts"},
    "iso_times": set(),
    "texts": {"loose_json"},
    "__main__": {"cli"},
    "": set(),
}
OWNERS = {
    "aiohttp": {
        "send/client.py",
        "send/connections.py",
        "send/line.py",
        "send/parsing.py",
        "send/faults.py",
        "send/fetch.py",
        "rehearsal/",
    },
    "tenacity": {"send/attempts.py"},
    "pyarrow": {"load/", "store/", "evaluate/", "arrow.py", "arrow_fit.py", "arrow_values.py", "reading.py"},
    "numpy": {"evaluate/"},
    "regex": {"evaluate/scorers.py"},
    "rapidfuzz": {"evaluate/scorers.py"},
    "tqdm": {"cli/"},
    "click": {"cli/"},
    "minijinja": {"load/template", "evaluate/report.py"},
    "cronsim": {"cron.py"},
}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "batchmix":
                yield from (
                    f"batchmix.{alias.name}"
                    for alias in node.names
                    if (ROOT / f"{alias.name}.py").exists() or (ROOT / alias.name).is_dir()
                )
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_and_each_library_has_its_owner(path: Path) -> None:
    inside = path.relative_to(ROOT)
    room = inside.parts[0] if len(inside.parts) > 1 else inside.stem.replace("__init__", "")
    for module in imported(path):
        top, _, rest = module.partition(".")
        if top == "batchmix":
            assert rest.partition(".")[0] in MAY[room], f"{inside} imports {module}"
        if top in OWNERS:
            assert any(str(inside).startswith(owner) for owner in OWNERS[top]), f"{inside} imports {module}"
