"""Files that are no input: the message names their format and how to convert them."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import re
import socket
import sqlite3
import subprocess
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from batchmix.errors import InputError
from batchmix.load.decompress import piped
from tests.conftest import Bench
from tests.load.conftest import all_requests, jsonl, make_job, open_rows, prompts_of

ROWS = [{"prompt": "héllo", "n": 1}, {"prompt": "b", "n": 2}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = pa.Table.from_pylist(ROWS)
NO_CONTROL = re.compile(r"[^\n\x20-\x7e\xa0-\uffff]")


def _written(write: Any, *args: Any) -> bytes:
    sink = io.BytesIO()
    write(*args, sink) if args else write(sink)
    return sink.getvalue()


def _zipped(name: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(name, "x")
    return sink.getvalue()


def _tarred() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
    return sink.getvalue()


def _stream() -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return sink.getvalue()


def _database(tmp_path: Path) -> bytes:
    base = sqlite3.connect(tmp_path / "made.db")
    base.execute("create table t (prompt text, n int)")
    base.executemany("insert into t values (?, ?)", [tuple(row.values()) for row in ROWS])
    base.commit()
    base.close()
    return (tmp_path / "made.db").read_bytes()


GO_ON: dict[str, tuple[str, Any, str]] = {
    "UTF-16 with a mark": ("a.jsonl", LINES.encode("utf-16"), "is text in UTF-16"),
    "UTF-16 without": ("a.jsonl", LINES.encode("utf-16-be"), "is text in UTF-16BE"),
    "UTF-32": ("a.jsonl", LINES.encode("utf-32"), "is text in UTF-32"),
    "UTF-32 without a mark": ("a.jsonl", LINES.encode("utf-32-le"), "is text in UTF-32LE"),
    "Windows-1252": ("a.jsonl", LINES.split("\n", maxsplit=1)[0].encode("cp1252"), "is text in WINDOWS-1252"),
    "an array": ("a.jsonl", json.dumps(ROWS), "is a JSON array"),
    "an indented array": ("a.json", json.dumps(ROWS, indent=1), "is a JSON array"),
    "an array with a row on each line": (
        "a.jsonl",
        "[\n" + LINES.strip().replace("\n", ",\n") + "\n]\n",
        "is a JSON array",
    ),
    "a text sequence": ("a.jsonl", "".join(f"\x1e{line}\n" for line in LINES.splitlines()), "is a JSON text sequence"),
    "an array in gzip": ("a.jsonl.gz", gzip.compress(json.dumps(ROWS).encode()), "when decompressed ("),
    "UTF-16 in gzip under another name": ("a.jsonl", gzip.compress(LINES.encode("utf-16")), "when decompressed ("),
    "a text on each line": ("a.jsonl", '"héllo"\n"b"\n', "is a JSON text on each line"),
    "a conversation on each line": (
        "a.jsonl",
        2 * '[{"role": "user", "content": "héllo"}]\n',
        "is a conversation on each line",
    ),
    "one conversation": (
        "a.json",
        '[\n {"content": "héllo", "role": "user"}\n]',
        "is a conversation; name it messages",
    ),
    "an array of conversations": ("a.jsonl", '[[{"role": "user", "content": "héllo"}]]', "array of conversations"),
    "columns": (
        "a.json",
        json.dumps({"prompt": ["héllo", "b"], "n": [1, 2]}),
        "is one object with a list for each column",
    ),
    "Chinese UTF-16 without a mark": (
        "a.jsonl",
        '{"prompt": "héllo", "中": "文"}\n'.encode("utf-16-le"),
        "text in UTF-16LE",
    ),
    "Chinese": (
        "a.jsonl",
        '{"prompt": "héllo", "中": "文字"}\n'.encode("gb18030"),
        "is text that is not in UTF-8, but in",
    ),
    "bars": ("a.txt", "prompt|n\nhéllo|1\nb|2\n", "is a table with bars"),
    "an array of texts": ("a.jsonl", json.dumps(["héllo", "b"]), "is a JSON array of texts"),
    "indented objects": ("a.jsonl", "\n".join(json.dumps(row, indent=2) for row in ROWS), "is JSON over many lines"),
    "objects on one line": ("a.jsonl", LINES.replace("\n", ""), "is several JSON objects on one line"),
    "objects with commas": ("a.jsonl", LINES.replace("}\n", "},\n"), "is JSON objects with commas"),
    "objects with commas between": ("a.jsonl", LINES.strip().replace("}\n", "},\n"), "is JSON objects with commas"),
    "Python's notation": ("a.jsonl", "\n".join(map(repr, ROWS)), "is Python literals"),
    "rows under a key": ("a.jsonl", json.dumps({"data": ROWS}), "one object with the rows under “data”"),
    "an Arrow file under another name": ("a.jsonl", _written(feather.write_feather, TABLE), "is Arrow"),
    "an Arrow stream under no name": ("a.bin", _stream(), "holds Arrow"),
    "Parquet called Arrow": ("a.arrow", _written(pq.write_table, TABLE), "is Parquet"),
    "ORC": ("a.orc", _written(orc.write_table, TABLE), "is an ORC file"),
    "SQLite": ("a.db", _database, "is an SQLite database"),
    "gzip under no name": ("a.json.gz", gzip.compress(LINES.encode()), "is compressed by gzip"),
    "bzip2": ("a.jsonl.bz2", bz2.compress(LINES.encode()), "is compressed by bzip2"),
    "xz": ("a.jsonl.xz", lzma.compress(LINES.encode()), "is compressed by xz"),
    "Parquet under another name": ("a.jsonl", _written(pq.write_table, TABLE), "is Parquet"),
    "Parquet under no name": ("a.bin", _written(pq.write_table, TABLE), "holds Parquet"),
    "JSON lines called Parquet": ("a.parquet", LINES, "is JSON lines, not Parquet"),
    "JSON lines called JSON": ("a.json", LINES, "it holds JSON lines"),
    "plain lines": ("a.txt", "héllo, what now\nb\n", "is plain text"),
}
TOLD = {
    "Excel": ("a.xlsx", _zipped("xl/workbook.xml"), "is an Excel workbook; save it as “CSV UTF-8”"),
    "old Excel": ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "is an Excel workbook"),
    "zip": ("a.zip", _zipped("rows.jsonl"), "is a zip archive"),
    "a packed tar": ("a.tar.gz", gzip.compress(_tarred()), "is a tar archive; unpack it, and give a file or a folder"),
    "Excel's first line": (
        "a.csv",
        "sep=;\nprompt;n\na;1\n",
        "a.csv:1: the first line is a note of Excel's, not a header: tail -n",
    ),
    "tar": ("a.tar", _tarred(), "is a tar archive"),
    "Avro": ("a.avro", b"Obj\x01\x04\x14", "is an Avro file"),
    "HTML": ("a.jsonl", "<!DOCTYPE html>\n<p>Sign in", "is HTML, perhaps a web page saved"),
    "XML": ("a.jsonl", "<rows>\n</rows>", "is XML"),
    "YAML": ("a.jsonl", "- prompt: a\n- prompt: b\n", "is YAML"),
    "two documents of YAML": ("a.yaml", "prompt: a\n---\nprompt: b\n", "is YAML"),
    "HTML behind a comment": ("a.csv", "<!-- x -->\n<html>", "is HTML, perhaps a web page"),
    "SQL": ("a.sql", "INSERT INTO t VALUES (1);\nSELECT 1;\n", "is plain text"),
    "Word": ("a.docx", _zipped("word/document.xml"), "is a Word document; extract its text"),
    "OpenDocument": (
        "a.ods",
        _zipped("mimetypeapplication/vnd.oasis.opendocument.spreadsheet"),
        "an OpenDocument spreadsheet",
    ),
    "many arrays": ("a.npz", _zipped("arr_0.npy"), "is NumPy arrays"),
    "DuckDB": ("a.db", bytes(8) + b"DUCK" + bytes(99), "is a DuckDB database; export a table to Parquet: duckdb"),
    "a picture": ("a.jsonl", b"\xff\xd8\xff\xe0\x01JFIF", "is binary data"),
    "pandas, split": ("a.json", '{"columns":["prompt"],"index":[0],"data":[["a"]]}', "pandas did not write by rows"),
    "pandas, by index": ("a.json", '{"0":{"prompt":"a"},"1":{"prompt":"b"}}', "pandas did not write by rows"),
    "LFS": ("a.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "git lfs pull"),
    "LFS, called Parquet": ("a.parquet", "version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "a pickle": ("a.jsonl", b"\x80\x04\x95\x00", "is a Python pickle"),
    "a zero in a cell": ("a.csv", b"q,v\na\x00b,1\n", "is binary data"),
    "no text at first": ("a.jsonl", b"MATLAB 5.0 MAT-file" + b" " * 99 + bytes(9), "is binary data"),
    "no text": ("a.jsonl", bytes(range(256)), "is binary data"),
    "pandas by columns": ("a.jsonl", '{"prompt":{"0":"a","1":"b"}}', "a table that pandas did not write by rows"),
    "semicolons": ("a.jsonl", "prompt;n\na;1\nb;2\n", "is CSV with semicolons"),
}


def _refused(name: str, data: Any, words: str, tmp_path: Path, **input_settings: Any) -> str:
    path = tmp_path / name
    found = data(tmp_path) if callable(data) else data
    path.write_bytes(found if isinstance(found, bytes) else found.encode())
    with pytest.raises(InputError) as caught:
        open_rows(make_job(path, **input_settings), tmp_path / "spool", reject_bad_rows=True)
    message = str(caught.value)
    assert words in message
    assert not NO_CONTROL.search(message)
    assert "\n" not in message
    assert not list((tmp_path / "spool").glob("*"))
    return message


def _unpacked(unpacking: re.Match[str] | None) -> set[str]:
    return {unpacking[1].rpartition("> ")[2].strip("'")} if unpacking else set()


@pytest.mark.parametrize("case", GO_ON)
def test_the_suggested_command_converts_the_file_to_rows(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run in the current folder, it writes a file that can be read."""
    folder = tmp_path / "my data"
    folder.mkdir()
    monkeypatch.chdir(folder)
    name, data, words = GO_ON[case]
    message = _refused(name, data, words, folder)
    unpacking = re.search(r"decompressed \((.*?)\)", message)
    command = re.split(r": (?=\S*(?:iconv|mv|gzip|bzip2|xz|sed|tr|python\S*) )", message, maxsplit=1)[1]
    subprocess.run(["bash", "-c", f"{unpacking[1]} && {command}" if unpacking else command], check=True, timeout=60)
    (made,) = [path for path in folder.iterdir() if path.name not in {name, "made.db", *_unpacked(unpacking)}]
    job = make_job(made)
    assert [text.strip() for text in prompts_of(open_rows(job, tmp_path / "spool"), job)][:1] == [
        "héllo, what now" if case == "plain lines" else "héllo"
    ]


@pytest.mark.parametrize("case", TOLD)
def test_a_file_that_no_command_can_convert_is_named(case: str, tmp_path: Path) -> None:
    name, data, words = TOLD[case]
    _refused(name, data, words, tmp_path)


SHAPES = {
    "Anthropic": ({"custom_id": "a", "params": {"system": "s", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}},
                  "a line of an Anthropic batch"),
    "Anthropic's body": ({"model": "c", "system": "s", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]},
                         "a request of Anthropic's"),
    "Gemini's body": ({"contents": [{"role": "user", "parts": [{"text": "x"}]}]}, "a request of Gemini's"),
    "Gemini": ({"key": "a", "request": {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}}, "a Gemini batch"),
    "Bedrock": ({"recordId": "a", "modelInput": {"messages": [{"role": "user", "content": "x"}]}}, "a Bedrock batch"),
    "ShareGPT": ({"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}, {"from": "human", "value": "x"}]},
                 "a ShareGPT conversation"),
    "ShareGPT by roles": ({"conversation": [{"role": "user", "content": "x"}]}, 'with its messages in the column "conversation"'),
    "Messages": ({"Messages": [{"role": "user", "content": "x"}]}, 'with its messages in the column "Messages"'),
    "preference tuning": ({"input": {"messages": [{"role": "user", "content": "x"}], "tools": []}, "preferred_output": []},
                          'with its messages inside the column "input"'),
    "Cohere": ({"message": "x", "chat_history": []}, "a request of Cohere's"),
    "a prompt of messages": ({"prompt": [{"role": "user", "content": "x"}], "k": 1}, "prompt is a list of messages"),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPES)
def test_rows_of_other_tools_are_reported_with_a_command(case: str, tmp_path: Path) -> None:
    row, words = SHAPES[case]
    message = _refused("rows.jsonl", jsonl([row, row]), words, tmp_path)
    subprocess.run(["bash", "-c", message[re.search(r"\S*python\S* -c", message).start() :]], check=True, timeout=60)  # type: ignore[union-attr]
    job = make_job(tmp_path / "rows-new.jsonl")
    assert prompts_of(open_rows(job, tmp_path / "spool"), job) == ["x", "x"]


WHOLE = {
    "Anthropic": {
        "custom_id": "a",
        "params": {"system": "s", "messages": [{"role": "user", "content": "x"}], "top_p": 0.5, "stop_sequences": ["y"]},
    },
    "Bedrock": {
        "recordId": "a",
        "modelInput": {
            "anthropic_version": "1", "system": "s", "messages": [{"role": "user", "content": "x"}], "top_p": 0.5,
            "stop_sequences": ["y"],
        },
    },
    "Gemini": {
        "key": "a",
        "request": {
            "systemInstruction": {"parts": [{"text": "s"}]}, "contents": [{"role": "user", "parts": [{"text": "x"}]}],
            "generationConfig": {"topP": 0.5, "stopSequences": ["y"]},
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("case", WHOLE)
def test_nothing_of_another_batch_format_is_lost_in_the_conversion(case: str, tmp_path: Path) -> None:
    """System text and parameters are kept."""
    message = _refused("rows.jsonl", jsonl([WHOLE[case]]), f"{case} batch", tmp_path)
    subprocess.run(["bash", "-c", message[re.search(r"\S*python\S* -c", message).start() :]], check=True, timeout=60)  # type: ignore[union-attr]
    job = make_job(tmp_path / "rows-new.jsonl")
    (request,) = all_requests(open_rows(job, tmp_path / "spool"), job)
    body = json.loads(request.body)
    assert body.pop("model")
    assert json.loads((tmp_path / "rows-new.jsonl").read_text())["custom_id"] == "a"
    assert body == {
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}], "top_p": 0.5, "stop": ["y"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"instruction": "i", "context": "x", "response": "o"}, "'{{ instruction }}{% if context %} {{ context }}"),
        ({"recordId": "a", "modelInput": {"inputText": "x"}}, "such as --prompt '{{ modelInput.inputText }}'"),
        ({"custom_id": "a", "result": {"type": "succeeded"}}, "the output of an Anthropic batch"),
        ({"key": "a", "response": {"candidates": []}}, "the output of a Gemini batch"),
        ({"instruction": "i", "input": "x", "output": "o"}, "--prompt '{{ instruction }}{% if input %} {{ input }}"),
        ({"model": "m", "input": "x"}, "a bare request of /responses or /embeddings"),
        ({"id": "batch_1", "custom_id": "a", "response": {"body": {}}}, "the output of an OpenAI batch"),
        ({"prompt": ["a", "b"]}, "prompt is a list of texts"),
        ({"prompt": [15, 20]}, "prompt is a list of token ids"),
    ],
)
def test_rows_of_other_kinds_are_named(row: Any, words: str, tmp_path: Path) -> None:
    _refused("rows.jsonl", jsonl([row]), words, tmp_path)


def test_a_template_accepts_any_rows(tmp_path: Path, spool: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(jsonl([SHAPES["ShareGPT"][0]]))
    job = make_job(tmp_path / "rows.jsonl", prompt="{{ conversations[0].value }}")
    assert prompts_of(open_rows(job, spool), job) == ["x"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (LINES.encode("utf-16"), "stdin: is text in UTF-16"),
        (json.dumps(ROWS).encode(), "stdin: is a JSON array"),
        (bytes(1 << 20), "stdin: is binary data"),
        (b"prompt,n\na,1\nb,2\n", "stdin: is CSV, which can't be piped in; give the file's path$"),
    ],
)
def test_foreign_data_on_stdin_is_named_before_it_is_spooled(data: bytes, words: str, spool: Path) -> None:
    with pytest.raises(InputError, match=words):
        open_rows(make_job("-"), spool, stdin=io.BytesIO(data))
    assert not spool.exists()


@pytest.mark.parametrize(
    "data", ["{[1]}", "{'a\\d': 1}", "{" * 9999, "[" * 9999, "{'a':" * 9999, "'", '"', "[{", "\ufeff"]
)
def test_no_first_row_breaks_the_recognition(data: str, rows_file: Any, spool: Path) -> None:
    for name in ("a.jsonl", "a.csv", "a.txt", "a.parquet"):
        with pytest.raises(InputError):
            open_rows(make_job(rows_file(data.encode(), name)), spool)


def test_a_first_row_that_is_bad_is_one_bad_row(rows_file: Any, spool: Path) -> None:
    path = rows_file(b"nope, nope\n" + jsonl(ROWS))
    with pytest.raises(
        InputError,
        match=r"1 bad row; nothing was sent:\n.*rows\.jsonl:1: is not JSON.*\nFix it, or .* as a rejected row in",
    ):
        open_rows(make_job(path), spool)


def test_pipes_devices_and_sockets_are_not_read_as_files(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused without waiting; in a folder they are skipped."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("a.jsonl")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("b.jsonl")
        for name, words in (
            ("a.jsonl", r"^a\.jsonl: is a named pipe, .*: batchmix run - … < a\.jsonl"),
            ("b.jsonl", r"^b\.jsonl: is a socket"),
            ("/dev/zero", "^/dev/zero: is a device"),
            ("*.jsonl", "is a named pipe"),
        ):
            with pytest.raises(InputError, match=words):
                open_rows(make_job(name), spool)
    (tmp_path / "c.jsonl").write_bytes(jsonl(ROWS))
    job = make_job(".")
    assert prompts_of(open_rows(job, spool), job) == ["héllo", "b"]


def test_a_process_substitution_is_read_like_stdin(bench: Bench) -> None:
    """It is read once; the next start uses the spool, although the number in its name may differ."""
    reading, writing = os.pipe()
    feeding = threading.Thread(target=lambda: (os.write(writing, LINES.encode()), os.close(writing)))
    feeding.start()
    bench.settings["input"] = {"path": f"/dev/fd/{reading}"}
    bench.run()
    feeding.join()
    assert [row["custom_id"] for row in bench.rows()] == ["0", "1"]
    bench.run()
    assert bench.standin.request_count() == 2
    os.close(reading)
    with piped(None, f"/dev/fd/{reading}") as gone:
        assert gone is None
    assert make_job("/dev/fd/9").name == make_job("/dev/stdin").name == "stdin"
    assert make_job("/dev/stdin").input.path == "-"
