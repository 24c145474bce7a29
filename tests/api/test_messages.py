"""Errors speak Python: no option of the command line is left in a message."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import batchmix as bm
from batchmix.api.messages import in_python
from tests.conftest import Provider


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("add --update to do that, or choose another folder with --out", "add update=True to do that, or choose another folder with out=…"),
        ("give --bad-rows reject to have it", "give bad_rows='reject' to have it"),
        ("--limit 5 differs from before", "limit=5 differs from before"),
        ("--models: the job has no 'x'", "models: the job has no 'x'"),
        ("name one, such as --model gpt-4o-mini, or", "name one, such as model='gpt-4o-mini', or"),
        ("use --prompt '{{ a }}'", "use prompt='{{ a }}'"),
        ("again: --set provider.headers.X=env:NAME", "again: provider={'headers': {'X': env:NAME}}"),
        ("(--set input.params='' leaves them out)", "(input={'params': ''} leaves them out)"),
        ("unknown setting temperature: temperature belongs under [params]", "unknown setting temperature: temperature belongs in params={…}"),
        ("max_tokens belongs under [params] or under [budget]", "max_tokens belongs in params={…} or in budget={…}"),
        ("a.toml:3: unknown setting top_p: belongs under [params]", "a.toml:3: unknown setting top_p: belongs under [params]"),
        ("runs/a: has not been evaluated; run batchmix eval runs/a", "runs/a: has not been evaluated; call bm.evaluate('runs/a', …)"),
        ('or set provider.api_key_env = "" where the server', 'or pass provider={"api_key_env": ""} where the server'),
        ("there are 'a'. In a shell, put the template in single quotes. For many", "there are 'a'. For many"),
        (
            'rename it under [input]: columns = [{from = "model", to = "input_model"}], together with',
            'rename it: input={"columns": [{"from": "model", "to": "input_model"}]}, together with',
        ),
        ("a--b and --other stay", "a--b and --other stay"),
    ],
)  # fmt: skip
def test_options_become_keyword_arguments(message: str, shown: str) -> None:
    assert in_python(message) == shown


def test_no_error_of_a_call_names_an_option(tmp_path: Path, standin: Provider) -> None:
    at: Any = {"base_url": standin.url, "provider": {"api_key_env": ""}, "out": str(tmp_path / "run")}
    rows = [{"text": "a"}, {"text": "b"}]
    bm.run(rows, "Say {{ text }}", model="m", **at)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("mine")
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [{"text": "a"}, {"other": 1}]))
    calls: list[tuple[Any, dict[str, Any]]] = [
        (rows[:1], {}),
        (rows, {"prompt": "Sing {{ text }}"}),
        (rows, {"name": "another"}),
        (rows, {"limit": 1}),
        (rows, {"out": str(foreign)}),
        (rows, {"model": None}),
        (tmp_path / "bad.jsonl", {"out": str(tmp_path / "other")}),
        (tmp_path / "run" / "data", {}),
    ]
    for data, changed in calls:
        with pytest.raises(bm.UsageError) as caught:
            bm.run(data, **{"prompt": "Say {{ text }}", "model": "m", **at, **changed})
        assert not re.search(r"--[a-z]", str(caught.value)), str(caught.value)
    standin.behave("400=1")
    with pytest.raises(bm.Stopped, match="keep_going=True") as stopped:
        bm.run(
            [{"text": f"{n}"} for n in range(50)], "Say {{ text }}", model="m", **at | {"out": str(tmp_path / "new")}
        )
    assert "--" not in str(stopped.value)


def test_errors_of_a_table_speak_of_keyword_arguments(tmp_path: Path, standin: Provider) -> None:
    at: Any = {"model": "m", "base_url": standin.url, "out": tmp_path / "run"}
    with pytest.raises(bm.UsageError, match=r"temperature belongs in params=\{…\}"):
        bm.run(["a"], temperature=0, **at)
    with pytest.raises(bm.UsageError, match=r'pass provider=\{"api_key_env": ""\}'):
        bm.run(["a"], provider={"api_key_env": "NO_SUCH_VARIABLE"}, **at)
    at["provider"] = {"api_key_env": ""}
    with pytest.raises(bm.UsageError) as taken:
        bm.run([{"prompt": "a", "status": "new"}], **at)
    renamed = {"columns": [{"from": "status", "to": "input_status"}]}
    assert f"rename it: input={json.dumps(renamed)}," in str(taken.value)
    assert bm.run([{"prompt": "a", "status": "new"}], input=renamed, **at).to_arrow(["input_status"]).num_rows == 1
    with pytest.raises(bm.UsageError) as same:
        bm.run([{"text": "a"}, {"text": "b"}], "Say", **at | {"out": tmp_path / "new"})
    assert "shell" not in str(same.value)


def test_what_a_provider_says_reaches_no_terminal_raw_and_a_notebook_shows_no_traceback(
    tmp_path: Path, standin: Provider
) -> None:
    secret_escape = "gpt\x1b]0;owned\x07-4o"
    with pytest.raises(bm.UsageError) as caught:
        bm.run(["a"], "Say {{ text }}", model="m", base_url=standin.url, out=tmp_path / "run", nam=secret_escape)
    assert "\x1b" not in str(caught.value)
    standin.behave("404_retired=1")
    with pytest.raises(bm.Stopped) as stopped:
        bm.run(["a"], model=secret_escape, base_url=standin.url, provider={"api_key_env": ""}, out=tmp_path / "run")
    assert "\x1b" not in str(stopped.value)
    assert stopped.value._render_traceback_() == [f"{type(stopped.value).__name__}: {stopped.value}"]


def test_warnings_are_kept_and_not_printed(tmp_path: Path, standin: Provider) -> None:
    program = (
        "import sys, pathlib, batchmix as bm; at = dict(model='m', base_url=sys.argv[1], provider={'api_key_env': ''},"
        " out=sys.argv[2]); bm.run(['a', 'b'], limit=1, **at);"
        " pathlib.Path(sys.argv[2], 'run.json').unlink(); print(bm.run(['a', 'b'], **at).summary['ok'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, standin.url, tmp_path / "run"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_a_mistake_in_a_table_names_its_row_and_not_the_copy_in_the_run_folder(
    tmp_path: Path, standin: Provider
) -> None:
    at: Any = {"model": "m", "base_url": standin.url, "provider": {"api_key_env": ""}, "out": tmp_path / "run"}
    with pytest.raises(bm.UsageError, match=r"^data, row 0: has no column 'txt', which the template names"):
        bm.run(pa.table({"text": ["a", "b"]}), "Say {{ txt }}", **at)


def test_models_that_are_texts_are_refused_with_what_to_write(tmp_path: Path, standin: Provider) -> None:
    message = r"^models: write models=\[\{'id': 'a'\}, \{'id': 'b'\}\]$"
    with pytest.raises(bm.UsageError, match=message):
        bm.run(["a"], models=["a", "b"], base_url=standin.url, out=tmp_path / "run")  # type: ignore[list-item]
    with pytest.raises(bm.UsageError, match=message):
        bm.run(["a"], model=["a", "b"], base_url=standin.url, out=tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(bm.UsageError, match=r"^budget: expected a dict, got a whole number$"):
        bm.run(["a"], model="m", budget=3, base_url=standin.url, out=tmp_path / "run")  # type: ignore[arg-type]


def test_a_text_is_no_list_of_columns(tmp_path: Path, standin: Provider) -> None:
    run = bm.run(["a"], model="m", base_url=standin.url, provider={"api_key_env": ""}, out=tmp_path / "run")
    message = r"^columns: expected a list of names, got a text; write \['response'\]$"
    with pytest.raises(bm.UsageError, match=message):
        run.to_arrow("response")
    with pytest.raises(bm.UsageError, match=message):
        run.join(["a"], "response")
