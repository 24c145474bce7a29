"""The line of each setting is found, in all spellings that TOML allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchmix.job import read_job
from batchmix.job.toml_file import lines_of

JOB = '''\
# a comment = 1
params.top_p = 1          # dotted
[input]
path = "x.jsonl"
prompt = """
[params]
max_tokens = 1 {{ text }}
"""

[params]
  temperature = 0
"quoted key" = [
  1,
  2,
]
response_format.type = "text"
  [params.extra]
  a = 1
[[models]]
id = "one"
params = { max_tokens = 5, seed = 1 }

[[models]]
id = "two"
[models.params]
max_tokens = 6
[models.limits]
concurrency = 2
'''


def test_lines_are_those_on_which_keys_are_set() -> None:
    lines = lines_of(JOB)
    assert lines[("params", "top_p")] == 2
    assert lines[("input", "prompt")] == 5
    assert lines[("params", "temperature")] == 11
    assert lines[("params", "quoted key")] == 12
    assert lines[("params", "response_format")] == lines[("params", "response_format", "type")] == 16
    assert (lines[("params", "extra")], lines[("params", "extra", "a")]) == (17, 18)
    assert lines[("models", 0, "params", "max_tokens")] == 21
    assert lines[("models", 1, "params", "max_tokens")] == 26
    assert lines[("models", 1, "limits", "concurrency")] == 28
    assert ("params", "max_tokens") not in lines


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_counted_as_an_editor_counts_them(end: str) -> None:
    text = end.join(["a = '''", "\u2028\x0c ]", "]", "'''", "", "b = 1"])
    assert lines_of(text.replace("\x0c", "")) == {("a",): 1, ("b",): 6}


def test_a_models_parameters_are_placed_where_they_were_given_last(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text(
        JOB.replace("params.top_p = 1          # dotted\n", "\n").replace("temperature = 0", "max_tokens = 1")
    )
    one, two = read_job(file, {"params": {"temperature": 1}}, {}).models
    assert one.places["max_tokens"] == f"{file}:21"
    assert two.places["max_tokens"] == f"{file}:26"
    assert one.places["extra"] == two.places["extra"] == f"{file}:17"
    assert one.places["temperature"] == "--set params.temperature"
    (only,) = read_job(file, {"models": [{"id": "m", "params": {"max_tokens": 9}}]}, {}).models
    assert (only.places["max_tokens"], only.places["extra"]) == ("--set models", f"{file}:17")


def test_the_job_in_a_run_folder_has_no_line_numbers(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('model = "m"\n[input]\npath = "x.jsonl"\n[params]\ntop_p = 1\n')
    job = read_job(file, {}, {})
    assert job.places == {"top_p": f"{file}:5"}
    assert "places" not in str(job.public())
