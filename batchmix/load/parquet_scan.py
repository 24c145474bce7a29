"""The pass over Parquet before anything is spent: rows and types from the footer, the prompt columns read through."""

from __future__ import annotations

import pyarrow as pa

from batchmix.errors import InputError
from batchmix.formats.arrow_values import is_extension, is_list, is_text
from batchmix.load.arrow_rows import row_dicts
from batchmix.load.messages import neither
from batchmix.load.parquet import Cursor, ParquetInput
from batchmix.load.parquet_types import shown_type
from batchmix.load.prompts import PromptSource
from batchmix.load.scan import OnProgress, RowChecker, ShardRange
from batchmix.load.sources import shown

_MESSAGES = "must be a list of structs, each with a text as role, or the same as JSON text"


def columns_read(source: ParquetInput, prompts: PromptSource) -> list[str]:
    """Return the columns that requests are made from."""
    return [name for name in source.names if prompts.reads is None or name in prompts.reads]


def scan_rows(
    source: ParquetInput, prompts: PromptSource, mode: str, checker: RowChecker, rows: int, on_progress: OnProgress
) -> None:
    """Look at the first `rows` rows. Raises `InputError`."""
    if mode in ("plain", "bodies") and rows:
        _check_types(source)
    columns = columns_read(source, prompts)
    each = _needs_each_row(source, prompts, mode)
    if not columns and not each:
        return
    seen = 0
    for batch in Cursor(source, columns).read(0, rows):
        for row in row_dicts(batch, mode) if each else ():
            seen += 1
            problem = checker.problem(row)
            if problem is not None:
                whole = dict.fromkeys(source.names_at(seen - 1)) | row  # to tell which columns there are
                problem = prompts.problem(whole) or problem
                checker.bad(source.place(seen - 1), problem, seen)
        seen = seen if each else seen + batch.num_rows
        on_progress(seen)


def _needs_each_row(source: ParquetInput, prompts: PromptSource, mode: str) -> bool:
    """Return whether a row may be wrong although the columns are right."""
    if prompts.names_model or prompts.has_row_params or prompts.checks_types:
        return True
    if mode != "plain":
        return not source.everywhere(prompts.required)
    return "messages" in source.names or not source.everywhere(prompts.required | {"prompt"})


def shards_of(source: ParquetInput, rows: int, shard_rows: int) -> tuple[ShardRange, ...]:
    """Return the shards of the first `rows` rows."""
    ranges = [(first, min(first + shard_rows, rows)) for first in range(0, rows, shard_rows)]
    digests = source.digests(ranges)
    return tuple(ShardRange(first, stop, digest) for (first, stop), digest in zip(ranges, digests, strict=True))


def _check_types(source: ParquetInput) -> None:
    if "messages" not in source.names and "prompt" not in source.names:
        raise InputError(f"{shown(source.paths[0])}: {neither(source.names)}")
    for name, is_right, should in (("messages", _may_be_messages, _MESSAGES), ("prompt", _may_be_text, "must be text")):
        types = source.types_of(name)
        for path, kind in types.items():
            if not is_right(kind):
                hint = "; call a list of messages messages" if name == "prompt" and _may_be_messages(kind) else ""
                raise InputError(f"{shown(path)}: the column {name} has the type {shown_type(kind)}; it {should}{hint}")
        if name == "messages" and not all(map(pa.types.is_null, types.values())):
            return  # then prompt is for rows whose messages are null, and each row is looked at


def _may_be_text(kind: pa.DataType) -> bool:
    return is_text(kind) or pa.types.is_null(kind)


def _may_be_messages(kind: pa.DataType) -> bool:
    is_json = is_extension(kind) and kind.extension_name == "arrow.json"
    return is_json or _may_be_text(kind) or (is_list(kind) and pa.types.is_struct(kind.value_type))
