"""The formats of an export: a table, a batch, conversations, or a dataset folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batchmix.engine import reader
from batchmix.engine.selection import Selection
from batchmix.errors import PartDamaged, UsageError
from batchmix.reports.conversations import write_conversations
from batchmix.reports.dataset_folder import write_dataset_folder

CONVERSATIONS = ("openai-finetune", "sharegpt")
FORMATS = ("name", "openai-batch", *CONVERSATIONS, "hf")
"""All formats. `name` stands for the one that the file's ending names."""


def export_as(form: str, folder: Path, file: Path, selection: Selection, lost: list[str]) -> tuple[int, list[str]]:
    """Export a run in one of `FORMATS`; return how many results there are, and warnings.

    Unreadable data is left out, with messages in `lost`. Raises `UsageError`.
    """
    if form not in FORMATS:
        raise UsageError(f"format: there is no {form!r}; there are {', '.join(FORMATS)}")
    if form in CONVERSATIONS:
        if selection.columns is not None:
            raise UsageError(f"columns: the lines of {form} have fixed keys; leave this out")
        return write_conversations(folder, file, form, selection.where, lost)
    if form == "hf":
        return write_dataset_folder(folder, file, selection, lost)
    return reader.export(folder, file, openai_batch=form == "openai-batch", selection=selection, lost=lost)


def exported_count(form: str, folder: Path, file: Path, columns: Sequence[str] | None, where: str | None) -> int:
    """Export a run as `export_as` does, and return how many results there are. Raises `PartDamaged` at the end."""
    lost: list[str] = []
    selection = Selection(None if columns is None else tuple(columns), where)
    count, _ = export_as(form, folder, file, selection, lost)
    if lost:
        raise PartDamaged("; ".join(lost))
    return count
