"""Writes the results of a run as a dataset of Hugging Face: a Parquet file, and a card that describes it.

The card's format: https://huggingface.co/docs/hub/datasets-cards
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from batchmix.engine import reader
from batchmix.engine.selection import Selection
from batchmix.errors import UsageError
from batchmix.store.export_file import exported, refuse_own_file

_MARK = "<!-- batchmix export -->"
"""By this line a card is known to be one of ours, which may be replaced."""
_FILE = Path("data", "train-00000-of-00001.parquet")
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_FIGURES = (
    "rows", "ok", "failed", "rejected", "prompt_tokens", "completion_tokens", "cost_usd", "first_sent_at",
    "last_finished_at",
)  # fmt: skip
"""The keys of `summary.json` that the card has."""


def write_dataset_folder(folder: Path, target: Path, selection: Selection, lost: list[str]) -> tuple[int, list[str]]:
    """Write a run's results into the folder `target`, and return how many there are, and warnings.

    The folder must be new, empty, or an earlier export of this kind. Raises `UsageError`.
    """
    _check_folder(target)
    try:
        (target / _FILE).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{target}: can't be made: {error.strerror}; name a folder") from error
    count, warnings = reader.export(folder, target / _FILE, selection=selection, lost=lost)
    schema = pq.read_schema(target / _FILE)
    with exported(target / "README.md", reader.job_of(folder).output.permissions) as card:
        card.write_text(_card(folder, [(field.name, str(field.type)) for field in schema], count), encoding="utf-8")
    return count, warnings


def _check_folder(target: Path) -> None:
    refuse_own_file(target, target.resolve() / "README.md")
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{target}: is a file; name a folder for the dataset")
    card = target / "README.md"
    is_ours = card.is_file() and _MARK in card.read_text(encoding="utf-8", errors="replace")
    if not is_ours and any(target.iterdir()):
        raise UsageError(f"{target}: holds other files; name a new folder for the dataset")


def _card(folder: Path, columns: list[tuple[str, str]], count: int) -> str:
    view = reader.look(folder)
    summary = view.summary()
    size = next((name for most, name in _SIZES if count < most), "n>10M")
    front = {
        "pretty_name": summary["name"],
        "tags": ["batchmix", "synthetic"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }
    ids = {model.name: model.id for model in reader.job_of(folder).models}
    models = [
        [name, ids.get(name, name), _shown(summary["costs"].get(name, {}).get("cost_usd"))] for name in view.run.models
    ]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()]  # JSON is YAML too
    return "\n".join(
        [
            "---", *lines, "---", "", _MARK, "", f"# {_plain(summary['name'])}", "",
            f"{count:,} results of a [batchmix](https://aihubmix.com) run.", "",
            *_table(["model", "id", "cost in USD"], models), "",
            *_table(["figure of the whole run", "value"], [[name, _shown(summary[name])] for name in _FIGURES]), "",
            *_table(["column", "type"], [[name, type_] for name, type_ in columns]), "",
        ]
    )  # fmt: skip


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *[[_plain(cell) for cell in row] for row in rows]]
    return [f"| {' | '.join(line)} |" for line in lines]


def _shown(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6f}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """Return a text that Markdown and HTML show as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", html.escape(" ".join(text.split())))
