"""Recognises files that are not UTF-8 text by their first bytes, and gives the command that converts each."""

from __future__ import annotations

import codecs
import re

_ENCODINGS = (
    (b"\xff\xfe\x00\x00", "UTF-32"), (b"\x00\x00\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"),
)  # fmt: skip
_EXCEL = "an Excel workbook; save it as “CSV UTF-8” there, and give the .csv"
_MAGIC = (
    (b"FEA1", "a Feather file of the first version; convert it to Parquet: {python} 'import pyarrow.feather as f,"
              " pyarrow.parquet as p; p.write_table(f.read_table(\"{name}\"), \"{parquet}\")'"),
    (b"ORC", "an ORC file; convert it to Parquet: {python} 'import pyarrow.orc as o, pyarrow.parquet as p;"
             " p.write_table(o.read_table(\"{name}\"), \"{parquet}\")'"),
    (b"Obj\x01", "an Avro file; convert it to Parquet or JSON lines, such as: avro-tools tojson {file} > {jsonl}"),
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
    (b"\x89HDF\r\n", "an HDF5 file; convert it to Parquet or JSON lines first"),
    (b"\x93NUMPY", "a NumPy array; convert it to Parquet or JSON lines first"),
    (b"\x80\x04", "a Python pickle; load it where it was written, and write it as JSON lines or Parquet"),
    (b"\x80\x05", "a Python pickle; load it where it was written, and write it as JSON lines or Parquet"),
    (b"%PDF", "a PDF; extract its text into rows first"),
    (b"version https://git-lfs", "only a pointer of Git LFS; fetch the file itself: git lfs pull --include {file}"),
)  # fmt: skip
_AS_CSV = "save it as CSV in UTF-8 there, and give the .csv"
_PROSE = "extract its text into rows first"
_ZIPPED = (
    (b"xl/", _EXCEL),
    (b"word/", f"a Word document; {_PROSE}"),
    (b"ppt/", f"a PowerPoint presentation; {_PROSE}"),
    (b"application/vnd.oasis.opendocument.spreadsheet", f"an OpenDocument spreadsheet; {_AS_CSV}"),
    (b"application/vnd.oasis.opendocument", f"an OpenDocument file; {_PROSE}"),
    (b".iwa", f"a file of Apple's Numbers or Pages; {_AS_CSV}"),
    (b".npy", "NumPy arrays; convert them to Parquet or JSON lines first"),
    (b"[Content_Types].xml", _EXCEL),
)  # fmt: skip
TAR = "a tar archive; unpack it, and give a file or a folder of it: tar -xf {file}"
_BINARY = "binary data, not text"
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
_DUCKDB = "a DuckDB database; export a table to Parquet: duckdb {file} \"copy TABLE to '{parquet}'\""
_ZIP = "a zip archive; unpack it, and give a file of it: {module} zipfile -e {file} ."


def binary_format(head: bytes, *, is_row: bool) -> str | None:
    """Return a phrase with the format of a file that is not UTF-8 text and how to convert it.

    None if it may be UTF-8 text. `is_row` says whether one of the first lines is a JSON object. If so, some bytes that
    are not UTF-8 only make a row bad.
    """
    for bom, name in _ENCODINGS:
        if head.startswith(bom):
            return _in_encoding(name)
    for magic, description in _MAGIC:
        if head.startswith(magic):
            return description
    if head.startswith(b"PK\x03\x04"):
        return next((description for name, description in _ZIPPED if name in head), _ZIP)
    if head[8:12] == b"DUCK":
        return _DUCKDB
    if head[257:262] == b"ustar":
        return TAR
    if b"\x00" in head:
        return _with_zeros(head, is_row=is_row)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # a character may be cut off at the end
    except UnicodeDecodeError:
        return None if is_row else _not_utf8(head)
    return None


def _not_utf8(head: bytes) -> str:
    """Return the likely encoding of bytes that are not UTF-8 and have no zeros.

    In Western text, letters beyond ASCII mostly stand alone, and in other encodings mostly side by side.
    """
    if _CONTROL.search(head):
        return _BINARY
    beyond = _BEYOND_ASCII.findall(head)
    if sum(len(run) for run in beyond if len(run) > 1) * 2 < sum(map(len, beyond)):
        return _in_encoding("WINDOWS-1252")
    return (
        "text that is not in UTF-8, but in an encoding such as GB18030, SHIFT_JIS, BIG5, EUC-KR or WINDOWS-1251; name"
        " the right one in: iconv -f GB18030 -t UTF-8 {file} > {same}"
    )


def _with_zeros(head: bytes, *, is_row: bool) -> str | None:
    """Return the format of bytes with zeros: UTF-16 or UTF-32 without a byte order mark, or binary data.

    None if `is_row`, because then only some of the lines are bad.
    """
    first = head[:64]
    for name, step, at in (("UTF-32LE", 4, 0), ("UTF-32BE", 4, 3), ("UTF-16LE", 2, 0), ("UTF-16BE", 2, 1)):
        text = first.decode(name, "replace")[:-1]
        zeros = first.count(0) - first[at::step].count(0)
        if (
            zeros * 5 > len(first)
            and all(first[at::step])
            and "\ufffd" not in text
            and "".join(text.split()).isprintable()
        ):
            return _in_encoding(name)
    return None if is_row else _BINARY


def _in_encoding(name: str) -> str:
    return f"text in {name}, not in UTF-8: iconv -f {name} -t UTF-8 {{file}} > {{same}}"
