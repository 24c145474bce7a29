"""The commands that make a file one that is read, as they are told to a person."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from batchmix.load.sources import STDIN, shown


def configured(sentence: str, path: str) -> str:
    """Fill a file's names into a sentence."""
    name = "FILE" if path == STDIN else shown(path)
    folder, stem = Path(name).parent, Path(name).name.partition(".")[0] or "rows"
    names = {"file": shlex.quote(name), "name": name.replace('"', '\\"').replace("'", "'\\''")}
    for suffix in ("jsonl", "csv", "tsv", "parquet"):
        new = str(folder / f"{stem}.{suffix}")
        names[suffix] = shlex.quote(str(folder / f"{stem}-new.{suffix}") if new == name else new)
    kept = next((suffix for suffix in Path(name).suffixes[::-1] if suffix in (".csv", ".tsv", ".parquet")), ".jsonl")
    names["same"] = names[kept[1:]]
    python = shlex.quote(sys.executable or "python3")
    names |= {"python": f"{python} -c", "module": f"{python} -m"}
    return re.sub(r"\{(\w+)\}", lambda hole: names.get(hole[1], hole[0]), sentence)


def commas(mark: str) -> str:
    """Return the command that puts commas between the cells of a table."""
    command = f'import csv, sys; csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, delimiter="{mark}"))'
    return "{python} '" + command + "' < {file} > {csv}"


def separated_by(path: str, mark: str) -> str:
    """Return how a table whose cells are separated by something else than commas is made one that is read."""
    return configured(commas(mark), path)


def without_first(path: str) -> str:
    """Return how a file is made one without its first line."""
    return configured("tail -n +2 {file} > {same}", path)


def ends_in_cr(path: str) -> str:
    """Return how a table whose lines end as they did on old machines is made one that is read."""
    return configured("its lines end in CR alone: tr '\\r' '\\n' < {file} > {csv}", path)
