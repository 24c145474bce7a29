"""A template that reads no column would send, and pay for, the same prompt for every row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.errors import InputError
from tests.load.conftest import all_requests, make_job, open_rows, prompts_of

ROWS = [{"text": f"t{n}", "Review Text": "r", "n": n} for n in range(4)]


@pytest.mark.parametrize(
    ("prompt", "hint"),
    [
        ("Translate: {text}", "instead of {text}, write {{ text }}"),
        ("Translate: { text }", "instead of { text }, write {{ text }}"),
        ("Translate: {Text}", "instead of {Text}, write {{ text }}"),
        ("Translate: {text!r:>10}", "write {{ text }}"),
        ("Translate: {row['text']}", "instead of {row['text']}, write {{ text }}"),
        ("Translate: {row.text}", "write {{ text }}"),
        ("Translate: {text.strip()}", "instead of {text.strip()}, write {{ text }}"),
        ("Translate: {text[0]}", "write {{ text }}"),
        ("Translate: {text}}", "write {{ text }}"),
        ("Translate: $text", "instead of $text, write {{ text }}"),
        ("Translate: ${text}", "instead of ${text}, write {{ text }}"),
        ("Translate: %(text)s", "instead of %(text)s, write {{ text }}"),
        ("Translate: <text>", "instead of <text>, write {{ text }}"),
        ("Translate: [text]", "instead of [text], write {{ text }}"),
        ("Translate: {review_text}", 'instead of {review_text}, write {{ row["Review Text"] }}'),
        ("Translate: $reviewText", 'instead of $reviewText, write {{ row["Review Text"] }}'),
        ("Translate: {Review Text}", 'instead of {Review Text}, write {{ row["Review Text"] }}'),
        ("Translate: ", "name one, such as {{ text }}; there are 'text', 'Review Text', 'n'. In a shell, put"),
        ("{% set x = 1 %}{{ x }}", "name one"),
        ("{# {{ text }} #}", "name one"),
    ],
)
def test_a_template_that_reads_no_column_is_refused(prompt: str, hint: str, rows_file: Any, spool: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_rows(make_job(rows_file(ROWS), prompt=prompt), spool)
    message = str(caught.value)
    assert message.startswith("the template uses no column, so that all 4 rows would get the same prompt; ")
    assert hint in message


def test_a_template_whose_only_columns_no_row_has_is_refused_by_their_names(rows_file: Any, spool: Path) -> None:
    job = make_job(rows_file(ROWS), prompt="{{ txt|default('') }}")
    with pytest.raises(InputError, match=r"the template names 'txt', which no row has, .*; there are 'text', 'Review"):
        open_rows(job, spool)


def test_parquet_compressed_rows_messages_and_system_texts_are_checked_too(tmp_path: Path, spool: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for input_settings in (
        {"prompt": "Translate: {text}"},
        {"prompt": "Translate:", "system": "{text}"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "{text}"}]}]},
    ):
        with pytest.raises(InputError, match=r"instead of {text}"):
            open_rows(make_job(tmp_path / "a.parquet", **input_settings), spool)


@pytest.mark.parametrize(
    ("name", "hole"), [("self", "{{ self }}"), ("true", "{{ true|upper }}"), ("None", "{{- none }}")]
)
def test_the_spelling_for_a_column_with_an_ambiguous_name_is_suggested(
    name: str, hole: str, rows_file: Any, spool: Path
) -> None:
    path = rows_file([{name: "x", "text": "y"}])
    with pytest.raises(InputError) as caught:
        open_rows(make_job(path, prompt=f"{{{{ text }}}} {hole}"), spool)
    assert (
        str(caught.value) == f'{hole} means something else in a template; for the column, write {{{{ row["{name}"] }}}}'
    )


def test_a_column_name_without_a_letter_gives_no_suggestion(rows_file: Any, spool: Path) -> None:
    path = rows_file([{"  ": "x", "_": "y", "text": "z"}] * 2)
    for prompt in ("Costs $5 {}", "{😀}"):
        with pytest.raises(InputError, match=r"the same prompt; name one, such as {{ text }}"):
            open_rows(make_job(path, prompt=prompt), spool)


def test_a_constant_template_is_sent_when_it_is_intended(rows_file: Any, spool: Path) -> None:
    """One row with many samples, a column in another message, parameters or models of each row."""
    path = rows_file(ROWS)
    one = make_job(path, prompt="Say it", settings={"samples": 3})
    assert len(all_requests(open_rows(one, spool, limit=1), one)) == 3
    system = make_job(path, prompt="Say it", system="In {{ text }}")
    assert prompts_of(open_rows(system, spool), system) == ["Say it"] * 4
    own = rows_file([{"p": {"seed": n}, "m": "a"} for n in range(3)], "own.jsonl")
    job = make_job(own, prompt="Say it", params="p")
    assert len({request.hash for request in all_requests(open_rows(job, spool), job)}) == 3
    assert open_rows(
        make_job(
            own, prompt="Say it", model=None, settings={"input": {"path": str(own), "prompt": "Say it", "model": "m"}}
        ),
        spool,
    ).scan.models == ("a",)
    whole = make_job(path, prompt="{{ row }}")
    assert len(set(prompts_of(open_rows(whole, spool), whole))) == 4


def test_an_empty_prompt_and_a_file_name_are_refused(
    rows_file: Any, spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for one row."""
    path = rows_file(ROWS[:1])
    monkeypatch.chdir(tmp_path)
    Path("prompt.txt").write_text("Translate {{ text }}")
    with pytest.raises(InputError, match=r'is the name of a file; give its contents: --prompt "\$\(cat prompt.txt\)"'):
        open_rows(make_job(path, prompt="prompt.txt"), spool)
    with pytest.raises(InputError, match=r"input\.prompt: is empty"):
        open_rows(make_job(path, prompt=" "), spool)


def test_a_column_in_other_braces_gives_a_warning(
    rows_file: Any, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If another column is read, the braces may be intended; common uses of braces give no warning."""
    path = rows_file(ROWS)
    open_rows(make_job(path, prompt="<n>{{ n }}</n> {{ text }} [n] @n"), spool)
    assert caplog.text == ""
    open_rows(make_job(path, prompt="{{ n }}: {text}"), spool)
    assert "the template sends {text} as plain text; for the column, write {{ text }}" in caplog.text
    caplog.clear()
    open_rows(make_job(path, prompt="{text}"), spool, limit=1)
    assert "for the column, write {{ text }}" in caplog.text
