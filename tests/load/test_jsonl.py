from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmix.errors import InputError
from batchmix.load.jsonl import WHOLE_FILE, BadLineError, Segment, decode_row, read_lines
from tests.conftest import Bench
from tests.load.conftest import all_requests, carried_rows, make_job, open_rows, requests_of

BOM = b"\xef\xbb\xbf"
_blank = st.sampled_from([b"", b"\n", b"\r\n", b"  \n\t\n"])
_texts = st.text(st.characters(codec="utf-8"), max_size=6)
_files = st.lists(
    st.tuples(
        st.booleans(),  # a byte order mark
        st.lists(st.tuples(_blank, _texts, st.sampled_from([b"\n", b"\r\n", b" \n"])), max_size=7),
        st.booleans(),  # a line break at the end
        _blank,
    ),
    min_size=1,
    max_size=3,
)


def _written(folder: Path, files: Any) -> list[tuple[str, str]]:
    """Write the files; return (text, place) of each row."""
    rows = []
    for number, (bom, lines, ended, trailing) in enumerate(files):
        data, line = b"", 1
        for blank, text, end in lines:
            data += blank
            line += blank.count(b"\n")
            rows.append((text, f"f{number}.jsonl:{line}"))
            data += json.dumps({"text": text}, ensure_ascii=False).encode() + end
            line += 1
        if lines:
            data = data.rstrip(b" \r\n") if not ended else data + trailing
        (folder / f"f{number}.jsonl").write_bytes((BOM if bom else b"") + data)
    return rows


def test_long_and_short_lines_take_turns(tmp_path: Path) -> None:
    """Long lines are split in larger blocks than short ones, and their white space is looked for in another way."""
    sizes = [*[10] * 3000, *[70_000] * 12, *[5000] * 200, 600_000, *[10] * 9000, 70_000]
    lines = [b'{"text": "%d%b"}' % (number, b"x" * size) for number, size in enumerate(sizes)]
    ends = [(b"\n", b"\r\n", b" \n")[number % 3] for number in range(len(lines))]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(line + end for line, end in zip(lines, ends, strict=True)))
    read = [*read_lines(str(path), Segment(0, 0, WHOLE_FILE, 1))]
    assert [number for number, _, _ in read] == [*range(1, len(lines) + 1)]
    assert [line.rstrip() for _, _, line in read] == lines
    start, end = len(lines[0] + ends[0]), path.stat().st_size - len(lines[-1] + ends[-1])
    assert [*read_lines(str(path), Segment(0, start, end, 2))] == read[1:-1]


@settings(max_examples=60, deadline=None)
@given(_files, st.integers(1, 6), st.none() | st.integers(1, 9))
def test_any_file_yields_its_rows_from_any_shard_on(files: Any, shard_rows: int, limit: int | None) -> None:
    """Blank lines, CRLF, byte order marks, several files, a missing last line break: the rows are the same."""
    with tempfile.TemporaryDirectory() as name:
        rows = _written(Path(name), files)[:limit]
        job = make_job(name, prompt="{{ text }}")
        if not rows:
            with pytest.raises(InputError, match="no rows"):
                open_rows(job, Path(name, "spool"), shard_rows=shard_rows, limit=limit)
            return
        dataset = open_rows(job, Path(name, "spool"), shard_rows=shard_rows, limit=limit)
        assert dataset.scan.rows == len(rows)
        spans = [(span.first, span.stop) for span in dataset.scan.shards]
        assert spans == [(i, min(i + shard_rows, len(rows))) for i in range(0, len(rows), shard_rows)]
        for shard in reversed(range(len(spans))):
            first, stop = spans[shard]
            found = requests_of(dataset, job, shard)
            assert [r.row for r in found] == list(range(first, stop))
            prompts = [json.loads(r.body)["messages"][0]["content"] for r in found]
            assert prompts == [text for text, _ in rows[first:stop]]
        assert [row["text"] for row in carried_rows(dataset)] == [text for text, _ in rows]


@settings(max_examples=40, deadline=None)
@given(_files, st.integers(1, 4), st.data())
def test_line_numbers_are_those_of_the_file(files: Any, shard_rows: int, data: st.DataObject) -> None:
    """A bad row is reported with its physical line, by the scan and when its shard is read."""
    with tempfile.TemporaryDirectory() as name:
        rows = _written(Path(name), files)
        if not rows:
            return
        bad = data.draw(st.integers(0, len(rows) - 1))
        place = rows[bad][1]
        path, line = Path(name, place.partition(":")[0]), int(place.partition(":")[2])
        lines = path.read_bytes().split(b"\n")
        lines[line - 1] = (BOM if lines[line - 1].startswith(BOM) else b"") + b"{]\r"
        path.write_bytes(b"\n".join(lines))
        job = make_job(name, prompt="{{ text }}")
        with pytest.raises(InputError, match=f"{place}: is not JSON"):
            open_rows(job, Path(name, "spool"), shard_rows=shard_rows)
        dataset = open_rows(job, Path(name, "spool"), shard_rows=shard_rows, reject_bad_rows=True)
        assert dataset.scan.bad_rows == 1
        found = all_requests(dataset, job)
        assert [r.row for r in found] == list(range(len(rows)))
        assert found[bad].failure.type == "bad_row"
        assert found[bad].failure.message.startswith(f"{place}: is not JSON")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b'{"a": "\\ud800"}', "\ud800"),
        (b'{"a": 1e400}', float("inf")),
        (b'{"a": -Infinity}', float("-inf")),
        (b'{"a": 123456789012345678901234567890}', 123456789012345678901234567890),
        ('{"a": "é\u2028"}'.encode(), "é\u2028"),
    ],
)
def test_json_written_by_python_can_be_read(line: bytes, value: Any) -> None:
    """Lone surrogates, numbers out of range and the like do not make a line bad."""
    assert decode_row(line) == {"a": value}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[1]", "is a list, not an object"),
        (b"null", "is null, not an object"),
        (b"12", "is a number, not an object"),
        (b'"x"', "is text, not an object"),
        (b'{"a": 1', "is not JSON: .* at column 8"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is nested too deeply"),
        (b'{"a":' + b"1" * 5000 + b"}", "a number with too many digits"),
        (b'{"a": 1} {"a": 2}', "is not JSON"),
    ],
)
def test_a_bad_line_reports_its_error(line: bytes, reason: str) -> None:
    """No content of a line raises any other exception."""
    with pytest.raises(BadLineError, match=reason):
        decode_row(line)


def test_a_million_blank_lines_are_skipped_in_linear_time(tmp_path: Path, spool: Path) -> None:
    """They are skipped in linear time, and the row after them has its number."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n" * 300_000 + b'{"prompt": 1}\n')
    with pytest.raises(InputError, match=r"rows\.jsonl:300001: prompt is a number; it must be text"):
        open_rows(make_job(path), spool)


def test_text_that_no_file_or_header_can_hold_rejects_only_its_row(bench: Bench) -> None:
    """JSON can express it, but no output can: in a name, a model, or in text that should contain JSON."""
    said = r'"messages": [{"role": "user", "content": "hi"}]'
    lines = [
        rf'{{"model": "m", {said}}}',
        rf'{{"model": "\ud800", {said}}}',
        rf'{{"model": "m\u001b[31m", {said}}}',
        rf'{{"model": "m", "\ud800": 1, {said}}}',
        rf'{{"model": "m", "tools": "\ud800", {said}}}',
        r'{"model": "m", "messages": "[{\"role\": \"user\", \"content\": \"\ud800\"}]"}',
    ]
    path = bench.root / "rows.jsonl"
    path.write_text("\n".join(lines))
    bench.settings["input"] = {"path": str(path)}
    del bench.settings["model"]
    totals = bench.run(reject_bad_rows=True).totals
    assert (totals.rejected, totals.ok) == (5, 1)
