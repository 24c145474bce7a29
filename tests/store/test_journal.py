"""A journal keeps every whole line, wherever it is cut or damaged."""

import io
import json
import os
import re
import zlib
from pathlib import Path

import msgspec
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmix.errors import DiskError, NoSpace
from batchmix.records import Exchange, Request
from batchmix.store.events import AttemptSent, Event, RowFailed
from batchmix.store.journal import Journal, encode_line
from batchmix.store.journal_reader import Damage, Line, decode_line, read_events, was_whole
from batchmix.store.lane_log import response_received

bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b'{"e":"sent","crc":"00000000"}',
            b'{"e":"sent","xxh3":"0000000000000000"}',
            b"\n\n",
            "é\u2028".encode(),
        ]
    ),
)


def request(row: int, sample: int = 0) -> Request:
    return Request(row, "m", sample, "h", "/chat/completions", b"{}", 1, None)


def events_of(made: list[tuple[int, bytes]]) -> list[Event]:
    """Return events of each kind, with bodies that look like journal lines."""
    events: list[Event] = []
    for row, body in made:
        events.append(AttemptSent(row, "m", 0, 1, "h", 17))
        exchange = Exchange(17, 18, 0.5, 200, body, "application/json", "rid")
        events.append(response_received(request(row), 1, exchange, None))
        events.append(RowFailed(row, "m", 0, 1, "h", "failed", "timeout", 'text with "quotes" and \n lines'))
    return events


def old_line(event: Event) -> bytes:
    """Return a line as earlier versions wrote it, with a CRC-32."""
    text = encode_line(event).rpartition(b',"xxh3"')[0]
    return b'%b,"crc":"%08x"}\n' % (text, zlib.crc32(text))


several = st.lists(st.tuples(st.integers(0, 9), bodies), min_size=1, max_size=4).map(events_of)


def found_in(data: bytes) -> list[Event]:
    return [found.event for found in read_events(io.BytesIO(data)) if isinstance(found, Line)]


def appended(path: Path, event: Event) -> None:
    journal = Journal(path, lambda: False)
    journal.append(event)
    journal.close()


@given(several)
def test_an_event_survives_encoding_and_decoding(events: list[Event]) -> None:
    for event in events:
        assert decode_line(encode_line(event)) == event


@given(several, st.data())
def test_lines_of_earlier_versions_are_read_among_others_and_damage_to_them_is_seen(
    events: list[Event], data: st.DataObject
) -> None:
    lines = [data.draw(st.sampled_from([old_line, encode_line]))(event) for event in events]
    assert found_in(b"".join(lines)) == events
    hit = data.draw(st.integers(0, len(lines) - 1))
    lines[hit] = lines[hit].replace(b'"model":"m"', b'"model":"n"')
    assert was_whole(lines[hit])
    assert found_in(b"".join(lines)) == events[:hit] + events[hit + 1 :]


@given(st.binary(max_size=200))
def test_a_body_is_kept_byte_for_byte(body: bytes) -> None:
    exchange = Exchange(17, 18, 0.5, 200, body, "text/plain", None, "served", None, "cut_off", "broke off", True)
    event = response_received(request(1, sample=2), 3, exchange, None)
    again = decode_line(encode_line(event))
    assert again == event
    assert again.exchange() == exchange  # type: ignore[union-attr]


@given(several)
def test_lines_are_json_that_jq_reads(events: list[Event]) -> None:
    for event in events:
        line = encode_line(event)
        assert line.count(b"\n") == 1
        assert json.loads(line)["row"] == event.row


@settings(max_examples=300)
@given(several, st.data())
def test_a_journal_cut_anywhere_keeps_every_whole_line_and_takes_new_ones(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], data: st.DataObject
) -> None:
    lines = [data.draw(st.sampled_from([old_line, encode_line]))(event) for event in events]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    padding = data.draw(st.sampled_from([b"", b"\n" * 50, b"\0" * 50, b"\n" * 5 + b"\0" * 9]))
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    path.write_bytes(whole[:cut] + padding)
    kept, length = [], 0
    for event, line in zip(events, lines, strict=True):
        length += len(line)
        if length - 1 <= cut:
            kept.append(event)
    assert found_in(path.read_bytes()) == kept
    new = RowFailed(99, "m", 0, 1, "h", "rejected", "bad_row", "new")
    appended(path, new)
    appended(path, new)
    assert found_in(path.read_bytes()) == [*kept, new, new]


@settings(max_examples=400)
@given(several, st.data())
def test_a_damaged_byte_costs_only_the_line_it_is_in(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], data: st.DataObject
) -> None:
    lines = [encode_line(event) for event in events]
    whole = bytearray(b"".join(lines))
    at = data.draw(st.integers(0, len(whole) - 1))
    old = whole[at]
    whole[at] = data.draw(st.integers(0, 255).filter(lambda value: value != old))
    hit, start = 0, 0
    for number, line in enumerate(lines):
        if start <= at < start + len(line):
            hit = number
        start += len(line)
    is_newline = at == sum(map(len, lines[: hit + 1])) - 1
    expected = events if is_newline else [event for number, event in enumerate(events) if number != hit]
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    path.write_bytes(bytes(whole))
    assert found_in(bytes(whole)) == expected
    new = AttemptSent(99, "m", 0, 1, "h", 17)
    appended(path, new)
    assert found_in(path.read_bytes()) == [*expected, new]


def test_damage_in_the_middle_is_reported_and_a_torn_tail_is_not(tmp_path: Path) -> None:
    line = encode_line(AttemptSent(1, "m", 0, 1, "h", 17))
    torn = list(read_events(io.BytesIO(line + line[:20])))
    assert [type(found) for found in torn] == [Line]
    damaged = list(read_events(io.BytesIO(line + b"rubbish\n" + line)))
    assert [type(found) for found in damaged] == [Line, Damage, Line]
    assert damaged[1] == Damage(len(line), 8)


def test_an_event_can_be_read_back_at_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    events = events_of([(number, b"x" * 5000) for number in range(400)])  # several stretches of the mapping
    journal = Journal(path, lambda: False)
    places = [journal.append(event) for event in events]
    with path.open("rb") as file:  # readable before it is closed, too
        for event, (offset, length) in zip(events, places, strict=True):
            assert decode_line(os.pread(file.fileno(), length, offset)) == event
    journal.close()
    assert found_in(path.read_bytes()) == events
    assert path.read_bytes().endswith(b"}\n")


@settings(max_examples=30)
@given(st.lists(st.sampled_from([1, 300, 40_000, 300_000, 700_000]), min_size=1, max_size=12), st.integers(0, 12))
def test_short_and_long_lines_follow_each_other_and_every_moment_leaves_json_lines(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], reopened_at: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    journal = Journal(path, lambda: False)
    events: list[Event] = []
    for row, size in enumerate(sizes):
        if row == reopened_at:
            journal.close()
            journal = Journal(path, lambda: False)
        event = response_received(request(row), 1, Exchange(1, 2, 0.1, 200, b"x" * size), None)
        offset, length = journal.append(event)
        events.append(event)
        data = path.read_bytes()
        assert decode_line(data[offset : offset + length]) == event
        assert found_in(data) == events
        assert not data[offset + length :].strip(b"\n")
    journal.close()
    assert found_in(path.read_bytes()) == events


def test_a_long_line_for_which_the_disk_is_full_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be written in part, over the newlines behind the last line and beyond them."""
    path, real = tmp_path / "j.jsonl", os.pwrite
    journal = Journal(path, lambda: False)
    journal.append(AttemptSent(1, "m", 0, 1, "h", 17))

    def nearly_full(fd: int, data: memoryview, start: int) -> int:
        if start >= 600_000:
            raise OSError(28, "No space left on device")
        return real(fd, data[: 600_000 - start], start)

    monkeypatch.setattr(os, "pwrite", nearly_full)
    with pytest.raises(NoSpace) as raised:  # held by a run until its end
        journal.append(response_received(request(1), 1, Exchange(1, 2, 0.1, 200, b"x" * (1 << 20)), None))
    first, rest = path.read_bytes().split(b"\n", 1)
    assert decode_line(first)
    assert not rest.strip(b"\n")
    journal.append(AttemptSent(2, "m", 0, 1, "h", 17))
    journal.close()
    assert [event.row for event in found_in(path.read_bytes())] == [1, 2]
    del raised


def test_an_event_larger_than_a_mapped_stretch_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    exchange = Exchange(1, 2, 0.1, 200, b'"' * 3_000_000)
    event = response_received(request(1), 1, exchange, None)
    journal = Journal(path, lambda: False)
    journal.append(AttemptSent(1, "m", 0, 1, "h", 1))
    journal.append(event)
    journal.append(AttemptSent(2, "m", 0, 1, "h", 1))
    journal.close()
    assert [type(found).__name__ for found in found_in(path.read_bytes())] == [
        "AttemptSent",
        "ResponseReceived",
        "AttemptSent",
    ]


@pytest.mark.parametrize(("where", "size"), [("allocate", 20_000), ("write_at", 20_000), ("write_at", 1 << 20)])
def test_a_full_disk_releases_the_reserve_and_then_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, size: int
) -> None:
    path = tmp_path / "j.jsonl"
    releases = []

    def full(fd: int, *_: object) -> None:
        os.ftruncate(fd, os.fstat(fd).st_size + 5000)  # a full disk may leave a longer file
        raise OSError(28, "No space left on device")

    journal = Journal(path, lambda: bool(releases.append(1)) or len(releases) < 3)
    answers = [response_received(request(1), 1, Exchange(1, 2, 0.1, 200, b"x" * each), None) for each in (20_000, size)]
    for _ in range(25):  # the next one does not fit into the first stretch of the mapping
        journal.append(answers[0])
    monkeypatch.setattr(f"batchmix.store.journal.{where}", full)
    with pytest.raises(NoSpace):
        journal.append(answers[1])
    assert len(releases) == 3
    monkeypatch.undo()
    journal.append(AttemptSent(2, "m", 0, 1, "h", 17))
    journal.close()
    assert [event.row for event in found_in(path.read_bytes())] == [*[1] * 25, 2]


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "j.jsonl", os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, start: real(fd, data[:100_000], start))
    journal = Journal(path, lambda: False)
    journal.append(AttemptSent(1, "m", 0, 1, "h", 17))
    assert set(path.read_bytes().splitlines()[1:]) == {b""}  # no zero bytes: jq can read it at any time
    journal.close()


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    appended(path, AttemptSent(1, "m", 0, 1, "h", 17))
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("field", ['"latency":1e400', '"at":1e30', f'"at":{10**20}', '"done":-1', f'"status":{2**40}', f'"row":{2**70}', '"latency":NaN'])  # fmt: skip
def test_a_line_whose_numbers_fit_into_no_column_counts_as_damaged(field: str) -> None:
    line = encode_line(response_received(request(1), 1, Exchange(1, 2, 0.1, 200, b"x"), None))
    name = field.partition(":")[0]
    text = re.sub(rf"{name}:[^,]+", field, line.decode().partition(',"xxh3"')[0]).encode()
    assert decode_line(b'%b,"xxh3":"%016x"}' % (text, xxhash.xxh3_64_intdigest(text))) is None


def test_a_body_with_invalid_base64_is_taken_as_text() -> None:
    event = response_received(request(1), 1, Exchange(1, 2, 0.1, 200, b"\xff"), None)
    assert msgspec.structs.replace(event, body="abcde").exchange().body == b"abcde"


def test_a_journal_that_grows_during_a_sync_is_not_taken_for_truncated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread may append while the system tells another the size that the file had before."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, lambda: False)
    journal.append(event := AttemptSent(0, "m", 0, 1, "h", 17))
    fstat = os.fstat

    def fstat_while_it_grows(fd: int) -> os.stat_result:
        monkeypatch.undo()
        status = fstat(fd)
        while path.stat().st_size == status.st_size:
            journal.append(event)
        return status

    monkeypatch.setattr(os, "fstat", fstat_while_it_grows)
    journal.sync()
    journal.close()
    assert {found.row for found in found_in(path.read_bytes())} == {0}


def test_a_journal_that_another_program_truncates_is_reported_and_stays_writable(tmp_path: Path) -> None:
    """Without space under the mapping, the next write would kill the process."""
    path = tmp_path / "00000-000.jsonl"
    journal = Journal(path, lambda: False)
    journal.append(AttemptSent(1, "m", 0, 1, "h", 17))
    os.truncate(path, 0)
    with pytest.raises(DiskError, match="another program has cut it off"):
        journal.sync()
    journal.append(AttemptSent(1, "m", 0, 1, "h", 17))
    journal.close()
