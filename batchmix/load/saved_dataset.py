"""Finds the files of a folder that Hugging Face `datasets` wrote with `save_to_disk`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batchmix.errors import InputError
from batchmix.formats.display import clean
from batchmix.formats.lenient_json import read_json
from batchmix.load.files import shown, unreadable

_STATE = "state.json"
_SPLITS = "dataset_dict.json"


def saved_files(folder: str) -> list[str] | None:
    """Return the files of a saved dataset in their order. None for any other folder.

    They are those that its `state.json` names, since cached results of `datasets` may lie beside them. Raises
    `InputError` for a folder of several splits, and for files that are not in the folder.
    """
    root = Path(folder)
    if (root / _SPLITS).is_file() and not (root / _STATE).is_file():
        splits = _read(root / _SPLITS).get("splits")
        names = [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []
        some = f": {', '.join(clean(name, 60) for name in names)}; name one, as in {shown(str(root / names[0]))}"
        raise InputError(f"{shown(folder)}: is a saved dataset with several splits{some if names else ''}")
    if not (root / _STATE).is_file() or not (root / "dataset_info.json").is_file():
        return None
    state = _read(root / _STATE)
    entries = state.get("_data_files")
    if not isinstance(entries, list) or state.get("_indices_data_files") or state.get("_indices_files"):
        raise InputError(
            f"{shown(folder)}: was saved by an old version of datasets; save it again with a current one:"
            " load_from_disk(…).flatten_indices().save_to_disk(…)"
        )
    paths = []
    for entry in entries:
        name = entry.get("filename") if isinstance(entry, dict) else None
        path = root / str(name)
        if not isinstance(name, str) or Path(name).name != name or not path.is_file():
            raise InputError(f"{shown(folder)}: its {_STATE} names a file that is not there: {clean(str(name), 200)}")
        paths.append(str(path))
    if not paths:
        raise InputError(f"{shown(folder)}: there are no rows in it")
    return paths


def _read(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path.read_bytes())
    except OSError as error:
        raise unreadable(str(path), error) from error
    if not isinstance(value, dict):
        raise InputError(f"{shown(str(path))}: is no JSON object, as datasets writes it")
    return value
