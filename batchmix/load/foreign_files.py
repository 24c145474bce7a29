"""Recognises files that batchmix can't read by their content, and gives the command that converts each.

Most functions here return None, or a phrase that completes “the file is …” and has placeholders for
`conversions.fill_in`.
"""

from __future__ import annotations

import ast
import csv
import json
import re
import shlex
import warnings

from batchmix.load.conversions import commas, conversion_of, each_row, fill_in
from batchmix.load.file_signatures import TAR, binary_format
from batchmix.load.files import STDIN, Source, head_of
from batchmix.load.jsonl import BOM, BadLineError, decode_row
from batchmix.load.sources import JSONL, InputFormat, format_by_signature, format_of

_LINES = 20
"""The number of lines at the beginning of a file that are examined."""
_PAGE = 1000
"""The number of characters at the beginning of a web page that contain its first tags."""
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


def unsupported_file(path: str) -> str:
    """Return a hint about the actual format of a file whose suffix is not supported. Empty if the format is unknown."""
    head = head_of(path)
    if _PACKED_TAR.search(path.lower()):
        return f"; it is {fill_in(TAR, path)}"
    if binary := format_by_signature(head):
        return f"; it holds {fill_in(_renamed(binary), path)}"
    is_row = _is_row(head)
    description = _wrapped(head) if is_row else _format(head)
    if is_row and not description:
        return "; it holds JSON lines: " + fill_in("mv {file} {jsonl}", path)
    return f"; it is {fill_in(description, path)}" if description else ""


def wrong_content(source: Source, head: bytes, *, sends_rows: bool) -> str | None:
    """Return a message about the actual format of a file and how to convert it.

    None if the content fits the file's name. The format is recognised by the first bytes, `head`. `sends_rows` says
    whether rows are sent without a template. If so, rows in other tools' formats must be converted too.
    """
    actual = _actual_format(source, head, sends_rows=sends_rows)
    if actual is None:
        return None
    if source.is_stream:
        actual = re.sub(r": mv .*", ", which can't be piped in; give the file's path", actual)
        return f"is {fill_in(actual, STDIN)}"
    if source.compression is None:
        return f"is {fill_in(actual, source.path)}"
    unpacked = fill_in("{same}", source.path)
    unpacking = fill_in(f"{source.compression} -dc {{file}} > {{same}}", source.path)
    return f"is, when decompressed ({unpacking}), {fill_in(actual, shlex.split(unpacked)[0])}"


def _actual_format(source: Source, head: bytes, *, sends_rows: bool) -> str | None:
    """Return the actual format of a file, and how to convert the file. None if the content fits the file's format."""
    expected, binary = format_of(source), format_by_signature(head)
    if binary is not None:
        return None if binary is expected else _renamed(binary)
    if expected.signatures:
        if not head:
            return None
        return f"JSON lines, not {_title(expected)}: mv {{file}} {{jsonl}}" if _is_row(head) else _format(head)
    if expected.is_table:
        return _table_format(head)
    if expected.name != JSONL:
        return binary_format(head, is_row=False)
    return (_row_format(head) if sends_rows else _wrapped(head)) if _is_row(head) else _format(head)


def _renamed(actual: InputFormat) -> str:
    """Return the name of a format, and the command that gives a file the suffix of this format."""
    return f"{_title(actual)}: mv {{file}} {{{actual.suffixes[0].removeprefix('.')}}}"


def _title(named: InputFormat) -> str:
    return named.name.capitalize()


def _table_format(head: bytes) -> str | None:
    """Return the actual format of a file whose suffix is that of CSV or TSV. None if it may be a table."""
    if _is_row(head):
        return "JSON lines: mv {file} {jsonl}"
    description = binary_format(head, is_row=_is_row(head))
    text = _decoded(head)
    return description or (_text_format(text) if text.startswith(("<", "[{", "{")) else None)


def _is_row(head: bytes) -> bool:
    """Return whether one of the first lines is a JSON object, and the first line is not part of a longer JSON value."""
    lines = _lines(head)
    if not lines or b"\x00" in lines[0][:64] or _continues(lines[0].decode(errors="replace").strip()):
        return False
    return any(_row(line) is not None for line in lines)


def _continues(line: str) -> bool:
    """Return whether a line is part of a longer JSON value: the beginning of one, or an object followed by a comma."""
    if line in ("{", "[") or line.endswith("},"):
        return not _is_json(line)
    return line.startswith("[") and not _is_json(line)


def _lines(head: bytes) -> list[bytes]:
    return [line for line in head.removeprefix(BOM).lstrip().split(b"\n", _LINES)[:_LINES] if line.strip()]


def _row(line: bytes) -> dict[str, object] | None:
    try:
        return decode_row(line.strip())
    except BadLineError:
        return None


def _row_format(head: bytes) -> str | None:
    row = _row((_lines(head) or [b""])[0])
    return _wrapped(head) or (conversion_of(row) if row else None)


def _wrapped(head: bytes) -> str | None:
    """Describe a file that is one JSON object with all rows in it, and give the command that converts it.

    None for any other file.
    """
    text = head.decode(errors="replace").lstrip("\ufeff \n\r\t")
    if _PANDAS.match(text):
        return (
            "a table that pandas did not write by rows; write it with:"
            ' frame.to_json("{jsonl}", orient="records", lines=True)'
        )
    match = _WRAPPED.match(text)
    if match and len(_lines(head)) == 1:
        return f"one object with the rows under “{match[1]}”: " + each_row("r", f'json.load(sys.stdin)["{match[1]}"]')
    return _by_columns(head) if len(_lines(head)) == 1 else None


def _by_columns(head: bytes) -> str | None:
    """Describe a file that is one JSON object with a list per column, and give the command that converts it.

    None for any other file.
    """
    row = _row(_lines(head)[0]) or {}
    # A row may have lists too, but seldom all of one length.
    lengths = {len(value) if isinstance(value, list) else -1 for value in row.values()}
    if len(row) < 2 or len(lengths) != 1 or min(lengths) < 2:
        return None
    return "one object with a list for each column: " + each_row("dict(zip(c, r))", "zip(*c.values())").replace(
        "for r in", "for c in [json.load(sys.stdin)] for r in"
    )


def _format(head: bytes) -> str | None:
    """Return the format of a file that has no row among its first lines. None if it is unknown."""
    text = _decoded(head)
    return binary_format(head, is_row=_is_row(head)) or (_text_format(text) if text else None)


def _decoded(head: bytes) -> str:
    return head.removeprefix(BOM).decode(errors="replace").lstrip(" \t\r\n")


def _text_format(text: str) -> str | None:
    lines = [line for line in re.split(r"\r\n?|\n", text, maxsplit=_LINES)[:_LINES] if line.strip()]
    first = lines[0]
    if first.startswith("<"):
        is_html = re.search(r"<(!doctype html|html|head|body)\b", text[:_PAGE], re.IGNORECASE)
        return f"{'HTML' if is_html else 'XML'}, perhaps a web page saved instead of the file"
    if text.startswith("["):
        return _array_format(text, lines)
    if first.startswith('"') and _is_json(first):
        return "a JSON text on each line: " + each_row('{"prompt": r}', "map(json.loads, sys.stdin)")
    if first.startswith("\x1e"):
        return "a JSON text sequence: tr -d '\\036' < {file} > {jsonl}"
    if first.startswith("{"):
        return _object_format(first)
    if re.match(r"\d|true|false|null", first) and _is_json(first):
        return None  # the message for each line says what it is
    return _tabular_format(lines) or _prose_format(lines)


def _array_format(text: str, lines: list[str]) -> str | None:
    by_line = len(lines) > 1 and all(map(_is_json, lines[:2]))
    if _CHAT.match(text):
        rows = "map(json.loads, sys.stdin)" if by_line else "[json.load(sys.stdin)]"
        what = "a conversation on each line" if by_line else "a conversation"
        return f"{what}; name it messages: " + each_row('{"messages": r}', rows)
    if by_line:
        return None  # the message for each line says what it is
    if _CHAT.match(text[1:].lstrip()):
        return "a JSON array of conversations: " + each_row('{"messages": r}', "json.load(sys.stdin)")
    if re.match(r"\[\s*(\{|\]|$)", text):
        return "a JSON array, not one object a line: " + each_row("r", "json.load(sys.stdin)")
    if re.match(r'\[\s*"', text) and len(lines) == 1:
        return "a JSON array of texts: " + each_row('{"prompt": r}', "json.load(sys.stdin)")
    return None if _is_json(lines[0]) else _tabular_format(lines) or _prose_format(lines)


def _object_format(first: str) -> str | None:
    line = first.rstrip()
    if line.endswith("},") and _is_json(line[:-1]):
        return "JSON objects with commas between them: sed 's/,[[:space:]]*$//' {file} > {jsonl}"
    if line.endswith(("{", "[", ",", ":")):
        return f"JSON over many lines, not one object a line: {_JOINED}"
    try:
        json.JSONDecoder().raw_decode(line)
    except (ValueError, RecursionError):
        return _python_format(line)
    return f"several JSON objects on one line: {_JOINED}"


def _python_format(first: str) -> str | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # about unknown escape sequences
            is_dict = isinstance(ast.literal_eval(first), dict)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    rows = "[ast.literal_eval(l) for l in sys.stdin if l.strip()]"
    command = each_row("r", rows).replace("import json", "import ast, json")
    return f"Python literals, not JSON: {command}" if is_dict else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _tabular_format(lines: list[str]) -> str | None:
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


def _prose_format(lines: list[str]) -> str | None:
    if lines[0].startswith("data: {"):
        return "a stream of server-sent events, not rows"
    if lines[0] == "---" or all(re.match(r"\s|- |---|[\w-]+:(\s|$)", line) for line in lines):
        return "YAML; convert it to JSON lines first"
    if len(lines) > 1 and not any(_looks_like_json(line) for line in lines):
        prompts = each_row('{"prompt": r.strip()}', "sys.stdin if r.strip()")
        return f"plain text; where each line is a prompt: {prompts}"
    return None


def _looks_like_json(line: str) -> bool:
    return line.lstrip().startswith(("{", "["))
