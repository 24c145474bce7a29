"""What a file is that holds no rows as batchmix reads them, known by its content, and the command that makes it so."""

from __future__ import annotations

import ast
import codecs
import csv
import json
import re
import shlex
import warnings

from batchmix.load.commands import commas, told
from batchmix.load.files import JSONL, PARQUET, STDIN, Source, head_of
from batchmix.load.jsonl import BadLineError, decode_row
from batchmix.load.shapes import EACH, shape

_BOM = b"\xef\xbb\xbf"
_LINES = 20
_ENCODINGS = (
    (b"\xff\xfe\x00\x00", "UTF-32"), (b"\x00\x00\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"),
)  # fmt: skip
_EXCEL = "an Excel workbook; save it as “CSV UTF-8” there, and give the .csv"
_MAGIC = (
    (b"ARROW1", "an Arrow file (Feather); make it Parquet: {python} 'import pyarrow.feather as f, pyarrow.parquet as p;"
                " p.write_table(f.read_table(\"{name}\"), \"{parquet}\")'"),
    (b"\xff\xff\xff\xff", "an Arrow stream; make it Parquet: {python} 'import pyarrow as a, pyarrow.parquet as p;"
                          " p.write_table(a.ipc.open_stream(\"{name}\").read_all(), \"{parquet}\")'"),
    (b"FEA1", "a Feather file of the first version; make it Parquet: {python} 'import pyarrow.feather as f,"
              " pyarrow.parquet as p; p.write_table(f.read_table(\"{name}\"), \"{parquet}\")'"),
    (b"ORC", "an ORC file; make it Parquet: {python} 'import pyarrow.orc as o, pyarrow.parquet as p;"
             " p.write_table(o.read_table(\"{name}\"), \"{parquet}\")'"),
    (b"Obj\x01", "an Avro file; make it Parquet or JSON lines first, such as with avro-tools tojson {file} > {jsonl}"),
    (b"PARE", "an encrypted Parquet file; decrypt it first"),
    (b"SQLite format 3\x00",
     "an SQLite database; write a table of it as JSON lines, such as the first: {python} 'import json, sqlite3;"
     " c = sqlite3.connect(\"{name}\"); c.row_factory = sqlite3.Row; t = c.execute(\"select name from sqlite_master"
     " where type = ?\", [\"table\"]).fetchone()[0]; [print(json.dumps(dict(r))) for r in"
     " c.execute(\"select * from [\" + t + \"]\")]' > {jsonl}"),
    (b"\x1f\x8b", "compressed by gzip; unpack it: gzip -dc {file} > {same}"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it: zstd -dc {file} > {same}"),
    (b"BZh", "compressed by bzip2; unpack it: bzip2 -dc {file} > {same}"),
    (b"\xfd7zXZ\x00", "compressed by xz; unpack it: xz -dc {file} > {same}"),
    (b"\x04\x22\x4d\x18", "compressed by lz4; unpack it: lz4 -dc {file} > {same}"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it, and give a file of it: 7z x {file}"),
    (b"Rar!", "a RAR archive; unpack it, and give a file of it: unrar x {file}"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _EXCEL),
    (b"\x89HDF\r\n", "an HDF5 file; make it Parquet or JSON lines first"),
    (b"\x93NUMPY", "a NumPy array; make it Parquet or JSON lines first"),
    (b"\x80\x04", "a Python pickle; load it where it was written, and write it as JSON lines or Parquet"),
    (b"\x80\x05", "a Python pickle; load it where it was written, and write it as JSON lines or Parquet"),
    (b"%PDF", "a PDF; its text must be made rows first"),
    (b"version https://git-lfs", "only a pointer of Git LFS; fetch the file itself: git lfs pull --include {file}"),
)  # fmt: skip
_ZIP = "a zip archive; unpack it, and give a file of it: {module} zipfile -e {file} ."
_TAR = "a tar archive; unpack it, and give a file or a folder of it: tar -xf {file}"
_PACKED_TAR = re.compile(r"\.(tar\.\w+|t[gbx]z2?|tzst)$")
_JOINED = (
    "{python} 'import json, re, sys; [print(json.dumps(json.loads(o))) for o in"
    ' re.split(r"(?<=})\\s*(?={)", sys.stdin.read()) if o.strip()]\' < {file} > {jsonl}'
)
_PANDAS = re.compile(r'\{"[^"]{0,200}":\s*\{"0":')
_WRAPPED = re.compile(
    r'\{\s*"(data|rows|items|records|examples|samples|instances|train|test|validation|prompts|results)":\s*\[\s*\{'
)


def unknown_suffix(path: str) -> str:
    """Return what is to be said of a file whose name does not tell its format: what it holds, if that is plain."""
    head = head_of(path)
    if _PACKED_TAR.search(path.lower()):
        return f"; it is {told(_TAR, path)}"
    if head[:4] == b"PAR1":
        return "; it holds Parquet: " + told("mv {file} {parquet}", path)
    if _is_row(head):
        return "; it holds JSON lines: " + told("mv {file} {jsonl}", path)
    found = _kind(head)
    return f"; it is {told(found, path)}" if found else ""


def what_it_is(source: Source, head: bytes, *, asks_rows: bool) -> str | None:
    """Return what a source is that begins with `head`, if it is not what its name says, and how to go on.

    `asks_rows`: rows are asked as they are, by no template, so that their columns must be the right ones.
    """
    found = _found(source, head, asks_rows=asks_rows)
    if found is not None and source.path == STDIN:
        found = re.sub(r": mv .*", ", which can't be piped in; give the file's path", found)
    if found is None or source.path == STDIN or source.compression is None:
        return f"is {told(found, source.path)}" if found else None
    unpacked = told("{same}", source.path)
    unpacking = told(f"{source.compression} -dc {{file}} > {{same}}", source.path)
    return f"is, once it is unpacked ({unpacking}), {told(found, shlex.split(unpacked)[0])}"


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
    found = _bytes_kind(head)
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
            "a table that pandas wrote column by column; write it by rows:"
            ' frame.to_json("{jsonl}", orient="records", lines=True)'
        )
    found = _WRAPPED.match(text)
    if found and len(_lines(head)) == 1:
        return f"one object with the rows under “{found[1]}”: " + _each("r", f'json.load(sys.stdin)["{found[1]}"]')
    return None


def _kind(head: bytes) -> str | None:
    """Return what bytes are of which none of the first lines is a row."""
    text = _decoded(head)
    return _bytes_kind(head) or (_text_kind(text) if text else None)


def _bytes_kind(head: bytes) -> str | None:
    """Return what bytes are that are no text in UTF-8."""
    for bom, name in _ENCODINGS:
        if head.startswith(bom):
            return _in_encoding(name)
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if head.startswith(b"PK\x03\x04"):
        return _EXCEL if b"xl/" in head or b"[Content_Types].xml" in head else _ZIP
    if head[257:262] == b"ustar":
        return _TAR
    if b"\x00" in head:
        return _with_zeros(head)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # a character may be cut off at the end
    except UnicodeDecodeError:
        if not _is_row(head):
            return _in_encoding("WINDOWS-1252")
    return None


def _with_zeros(head: bytes) -> str | None:
    """Return what bytes with zeros among them are: text in UTF-16 or UTF-32 without a mark, or no text."""
    first = head[:64]
    for name, step, at in (("UTF-32LE", 4, 0), ("UTF-32BE", 4, 3), ("UTF-16LE", 2, 0), ("UTF-16BE", 2, 1)):
        rest = b"".join(first[other::step] for other in range(step) if other != at)
        if not any(rest) and all(first[at::step]):
            return _in_encoding(name)
    return None if _is_row(head) else "binary data, no text"


def _in_encoding(name: str) -> str:
    return f"text in {name}, not in UTF-8: iconv -f {name} -t UTF-8 {{file}} > {{same}}"


def _decoded(head: bytes) -> str:
    return head.removeprefix(_BOM).decode(errors="replace").lstrip(" \t\r\n")


def _text_kind(text: str) -> str | None:
    lines = [line for line in re.split(r"\r\n?|\n", text, maxsplit=_LINES)[:_LINES] if line.strip()]
    first = lines[0]
    if first.startswith("<"):
        is_html = re.match(r"<(!doctype html|html|head|body)\b", first, re.IGNORECASE)
        return f"{'HTML' if is_html else 'XML'}, perhaps a page that was saved in the place of the file"
    if re.match(r"\[\s*(\{|$)", text):
        return "a JSON array, not one object a line: " + _each("r", "json.load(sys.stdin)")
    if re.match(r'\[\s*"', text) and len(lines) == 1:
        return "a JSON array of texts: " + _each('{"prompt": r}', "json.load(sys.stdin)")
    if first.startswith("\x1e"):
        return "a JSON text sequence: tr -d '\\036' < {file} > {jsonl}"
    if first.startswith("{"):
        return _object_kind(first)
    if re.match(r'["\[\d]|true|false|null', first) and _is_json(first):
        return None  # each line says what it is
    return _tabular_kind(lines) or _prose_kind(lines)


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
    for mark, name, suffix in ((",", "CSV", "csv"), ("\t", "TSV", "tsv"), (";", "CSV with semicolons", None)):
        widths = [len(row) for row in csv.reader(lines[:3], delimiter=mark)]
        if widths and min(widths) > 1 and len(set(widths)) == 1 and ": " not in lines[0]:
            return f"{name}: mv {{file}} {{{suffix}}}" if suffix else f"{name}: {commas(mark)}"
    return None


def _prose_kind(lines: list[str]) -> str | None:
    if lines[0].startswith("data: {"):
        return "a stream of server-sent events, not rows"
    if lines[0] == "---" or all(re.match(r"\s|- |[\w-]+:(\s|$)", line) for line in lines):
        return "YAML; make it JSON lines first"
    if len(lines) > 1 and not any(_looks_like_json(line) for line in lines):
        prompts = _each('{"prompt": r.strip()}', "sys.stdin if r.strip()")
        return f"plain text; where each line is a prompt: {prompts}"
    return None


def _looks_like_json(line: str) -> bool:
    return line.lstrip().startswith(("{", "["))


def _each(each: str, rows: str) -> str:
    return EACH.replace("{each}", each).replace("{rows}", rows)
