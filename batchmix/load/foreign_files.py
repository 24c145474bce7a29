"""What a file is that holds no rows as batchmix reads them, known by its content, and the command that makes it so."""

from __future__ import annotations

import ast
import csv
import json
import re
import shlex
import warnings

from batchmix.load.conversion_hints import commas, configured
from batchmix.load.file_signatures import TAR, bytes_kind
from batchmix.load.foreign_rows import EACH, shape
from batchmix.load.jsonl import BadLineError, decode_row
from batchmix.load.sources import JSONL, PARQUET, STDIN, Source, head_of

_BOM = b"\xef\xbb\xbf"
_LINES = 20
_PAGE = 1000
"""How far into a page its first tags stand."""
_PACKED_TAR = re.compile(r"\.(tar\.\w+|t[gbx]z2?|tzst)$")
_JOINED = (
    "{python} 'import json, re, sys; [print(json.dumps(json.loads(o))) for o in"
    ' re.split(r"(?<=})\\s*(?={)", sys.stdin.read()) if o.strip()]\' < {file} > {jsonl}'
)
_PANDAS = re.compile(
    r'\{\s*("schema":\s*\{\s*"fields":|"columns":\s*\[.*"data":\s*\[\s*\[|"0":\s*\{|"[^"]{0,200}":\s*\{"0":)', re.DOTALL
)
_CHAT = re.compile(r'\[\s*\{\s*("role":|"content":\s*"(?:[^"\\]|\\.)*",\s*"role":)')
_WRAPPED = re.compile(
    r'\{\s*"(data|rows|items|records|examples|samples|instances|train|test|validation|prompts|results)":\s*\[\s*\{'
)


def unknown_suffix(path: str) -> str:
    """Return what is to be said of a file whose name does not tell its format: what it holds, if that is plain."""
    head = head_of(path)
    if _PACKED_TAR.search(path.lower()):
        return f"; it is {configured(TAR, path)}"
    if head[:4] == b"PAR1":
        return "; it holds Parquet: " + configured("mv {file} {parquet}", path)
    is_row = _is_row(head)
    found = _wrapped(head) if is_row else _kind(head)
    if is_row and not found:
        return "; it holds JSON lines: " + configured("mv {file} {jsonl}", path)
    return f"; it is {configured(found, path)}" if found else ""


def what_it_is(source: Source, head: bytes, *, asks_rows: bool) -> str | None:
    """Return what a source is that begins with `head`, if it is not what its name says, and how to go on.

    `asks_rows`: rows are asked as they are, by no template, so that their columns must be the right ones.
    """
    found = _found(source, head, asks_rows=asks_rows)
    if found is not None and source.path == STDIN:
        found = re.sub(r": mv .*", ", which can't be piped in; give the file's path", found)
    if found is None or source.path == STDIN or source.compression is None:
        return f"is {configured(found, source.path)}" if found else None
    unpacked = configured("{same}", source.path)
    unpacking = configured(f"{source.compression} -dc {{file}} > {{same}}", source.path)
    return f"is, once it is unpacked ({unpacking}), {configured(found, shlex.split(unpacked)[0])}"


def _found(source: Source, head: bytes, *, asks_rows: bool) -> str | None:
    if source.format == PARQUET:
        if not head or head[:4] == b"PAR1":
            return None
        return "JSON lines, not Parquet: mv {file} {jsonl}" if _is_row(head) else _kind(head)
    if head[:4] == b"PAR1":
        return "Parquet: mv {file} {parquet}"
    if source.format != JSONL:
        return _table_kind(head)
    return (_shaped(head) if asks_rows else _wrapped(head)) if _is_row(head) else _kind(head)


def _table_kind(head: bytes) -> str | None:
    """Return what bytes are that are no table of cells."""
    if _is_row(head):
        return "JSON lines: mv {file} {jsonl}"
    found = bytes_kind(head, is_row=_is_row(head))
    text = _decoded(head)
    return found or (_text_kind(text) if text.startswith(("<", "[{", "{")) else None)


def _is_row(head: bytes) -> bool:
    """Return whether one of the first lines is a JSON object, and none before it begins what has more lines."""
    lines = _lines(head)
    if not lines or b"\x00" in lines[0][:64] or _goes_on(lines[0].decode(errors="replace").strip()):
        return False
    return any(_row(line) is not None for line in lines)


def _goes_on(line: str) -> bool:
    """Return whether a line is the first of an array or an object over more of them, or an object with a comma."""
    if line in ("{", "[") or line.endswith("},"):
        return not _is_json(line)
    return line.startswith("[") and not _is_json(line)


def _lines(head: bytes) -> list[bytes]:
    return [line for line in head.removeprefix(_BOM).lstrip().split(b"\n", _LINES)[:_LINES] if line.strip()]


def _row(line: bytes) -> dict[str, object] | None:
    try:
        return decode_row(line.strip())
    except BadLineError:
        return None


def _shaped(head: bytes) -> str | None:
    row = _row((_lines(head) or [b""])[0])
    return _wrapped(head) or (shape(row) if row else None)


def _wrapped(head: bytes) -> str | None:
    """Return what one object is that holds all rows."""
    text = head.decode(errors="replace").lstrip("\ufeff \n\r\t")
    if _PANDAS.match(text):
        return (
            "a table that pandas wrote other than by rows; write it by rows:"
            ' frame.to_json("{jsonl}", orient="records", lines=True)'
        )
    found = _WRAPPED.match(text)
    if found and len(_lines(head)) == 1:
        return f"one object with the rows under “{found[1]}”: " + _each("r", f'json.load(sys.stdin)["{found[1]}"]')
    return _by_columns(head) if len(_lines(head)) == 1 else None


def _by_columns(head: bytes) -> str | None:
    """Return what one object is whose values are the columns of a table."""
    row = _row(_lines(head)[0]) or {}
    # A row may have lists too, but seldom all of one length.
    lengths = {len(value) if isinstance(value, list) else -1 for value in row.values()}
    if len(row) < 2 or len(lengths) != 1 or min(lengths) < 2:
        return None
    return "one object with a list for each column: " + _each("dict(zip(c, r))", "zip(*c.values())").replace(
        "for r in", "for c in [json.load(sys.stdin)] for r in"
    )


def _kind(head: bytes) -> str | None:
    """Return what bytes are of which none of the first lines is a row."""
    text = _decoded(head)
    return bytes_kind(head, is_row=_is_row(head)) or (_text_kind(text) if text else None)


def _decoded(head: bytes) -> str:
    return head.removeprefix(_BOM).decode(errors="replace").lstrip(" \t\r\n")


def _text_kind(text: str) -> str | None:
    lines = [line for line in re.split(r"\r\n?|\n", text, maxsplit=_LINES)[:_LINES] if line.strip()]
    first = lines[0]
    if first.startswith("<"):
        is_html = re.search(r"<(!doctype html|html|head|body)\b", text[:_PAGE], re.IGNORECASE)
        return f"{'HTML' if is_html else 'XML'}, perhaps a page that was saved in the place of the file"
    if text.startswith("["):
        return _array_kind(text, lines)
    if first.startswith('"') and _is_json(first):
        return "a JSON text on each line: " + _each('{"prompt": r}', "map(json.loads, sys.stdin)")
    if first.startswith("\x1e"):
        return "a JSON text sequence: tr -d '\\036' < {file} > {jsonl}"
    if first.startswith("{"):
        return _object_kind(first)
    if re.match(r"\d|true|false|null", first) and _is_json(first):
        return None  # each line says what it is
    return _tabular_kind(lines) or _prose_kind(lines)


def _array_kind(text: str, lines: list[str]) -> str | None:
    by_line = len(lines) > 1 and all(map(_is_json, lines[:2]))
    if _CHAT.match(text):
        rows = "map(json.loads, sys.stdin)" if by_line else "[json.load(sys.stdin)]"
        what = "a conversation on each line" if by_line else "a conversation"
        return f"{what}; call it messages: " + _each('{"messages": r}', rows)
    if by_line:
        return None  # each line says what it is
    if _CHAT.match(text[1:].lstrip()):
        return "a JSON array of conversations: " + _each('{"messages": r}', "json.load(sys.stdin)")
    if re.match(r"\[\s*(\{|\]|$)", text):
        return "a JSON array, not one object a line: " + _each("r", "json.load(sys.stdin)")
    if re.match(r'\[\s*"', text) and len(lines) == 1:
        return "a JSON array of texts: " + _each('{"prompt": r}', "json.load(sys.stdin)")
    return None if _is_json(lines[0]) else _tabular_kind(lines) or _prose_kind(lines)


def _object_kind(first: str) -> str | None:
    line = first.rstrip()
    if line.endswith("},") and _is_json(line[:-1]):
        return "JSON objects with commas between them: sed 's/,[[:space:]]*$//' {file} > {jsonl}"
    if line.endswith(("{", "[", ",", ":")):
        return f"JSON over many lines, not one object a line: {_JOINED}"
    try:
        json.JSONDecoder().raw_decode(line)
    except (ValueError, RecursionError):
        return _python_kind(line)
    return f"several JSON objects on one line: {_JOINED}"


def _python_kind(first: str) -> str | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # of a backslash that Python would write otherwise
            is_dict = isinstance(ast.literal_eval(first), dict)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    rows = "[ast.literal_eval(l) for l in sys.stdin if l.strip()]"
    command = _each("r", rows).replace("import json", "import ast, json")
    return f"Python's notation, not JSON: {command}" if is_dict else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _tabular_kind(lines: list[str]) -> str | None:
    for mark, name, suffix in (
        (",", "CSV", "csv"),
        ("\t", "TSV", "tsv"),
        (";", "CSV with semicolons", None),
        ("|", "a table with bars", None),
    ):
        widths = [len(row) for row in csv.reader(lines[:3], delimiter=mark)]
        if (
            widths
            and min(widths) > 1
            and len(set(widths)) == 1
            and ": " not in lines[0]
            and not lines[0].endswith(mark)
        ):
            return f"{name}: mv {{file}} {{{suffix}}}" if suffix else f"{name}: {commas(mark)}"
    return None


def _prose_kind(lines: list[str]) -> str | None:
    if lines[0].startswith("data: {"):
        return "a stream of server-sent events, not rows"
    if lines[0] == "---" or all(re.match(r"\s|- |---|[\w-]+:(\s|$)", line) for line in lines):
        return "YAML; make it JSON lines first"
    if len(lines) > 1 and not any(_looks_like_json(line) for line in lines):
        prompts = _each('{"prompt": r.strip()}', "sys.stdin if r.strip()")
        return f"plain text; where each line is a prompt: {prompts}"
    return None


def _looks_like_json(line: str) -> bool:
    return line.lstrip().startswith(("{", "["))


def _each(each: str, rows: str) -> str:
    return EACH.replace("{each}", each).replace("{rows}", rows)
