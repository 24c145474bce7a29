"""All mistakes in a job are reported at once, each with its line and the correction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchmix.errors import JobError
from batchmix.job import parse_setting, read_job
from batchmix.job.hints import CHAT_PARAMETERS
from batchmix.remote.files import is_url
from batchmix.remote.objects import is_remote

BAD = """\
samples = "3"
temprature = 0
max_tokens = 5
base_url = "x"
rpm = 3
[input]
path = "rows.jsonl"
samples = 3
prompt = 3
[limits]
concurency = 3
requests_per_minute = inf
[params]
temperature = 0
tokens_per_minute = 3
[prices.gpt-4.1]
input = 3
[[models]]
concurrency = 3
temperature = 3
[[eval.scorers]]
kind = "exct"
[[eval.scorers]]
kind = "regex"
pattrn = 3
[[eval.guards]]
metric = "scor"
"""
WORDS = [
    "1: samples: expected a whole number, got text",
    "2: unknown setting temprature: did you mean params.temperature?",
    "3: unknown setting max_tokens: max_tokens belongs under [params] or under [budget]",
    "4: unknown setting base_url: base_url belongs under [provider]",
    "5: unknown setting rpm: did you mean limits.requests_per_minute?",
    "8: unknown setting input.samples: samples belongs at the top, before the first [table]",
    "9: input.prompt: expected text, got a whole number",
    "11: unknown setting limits.concurency: did you mean limits.concurrency?",
    "12: limits.requests_per_minute: inf and nan are not allowed; leave the setting out where there is no limit",
    "15: params.tokens_per_minute: would go into each request; tokens_per_minute belongs under [limits]",
    '16: prices.gpt-4: put a model id with a dot in quotes: [prices."gpt-4.1"]',
    "19: unknown setting models.concurrency: concurrency belongs under [models.limits]",
    "20: unknown setting models.temperature: temperature belongs under [models.params]",
    "18: models.id is missing",
    "22: eval.scorers.kind: there is no 'exct'; did you mean exact?",
    "25: unknown setting eval.scorers.pattrn: did you mean eval.scorers.pattern?",
    "23: eval.scorers.pattern is missing",
    "27: eval.guards.metric: there is no 'scor'; did you mean score?",
]


def refusal(path: Path | None, settings: dict[str, Any]) -> str:
    with pytest.raises(JobError) as refused:
        read_job(path, settings, {})
    return str(refused.value)


def test_all_mistakes_are_reported_at_once_each_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(BAD)
    assert refusal(path, {}).replace(str(path), "job").split("\n") == [
        f"{len(WORDS)} settings of the job are wrong:",
        *(f"  job:{words}" for words in WORDS),
    ]


@pytest.mark.parametrize(
    ("table", "name", "words"),
    [
        ("input", "bad_rows", "did you mean the command's option --bad-rows?"),
        ("input", "limit", "did you mean the command's option --limit?"),
        ("provider", "timeout_s", "did you mean timeouts.total_s?"),
        ("output", "dir", "did you mean output.path?"),
    ],
)
def test_a_setting_by_another_name_is_recognized(table: str, name: str, words: str) -> None:
    given = {"model": "m", "input": {"path": "x"}}
    assert refusal(None, given | {table: given.get(table, {}) | {name: 3}}).endswith(words)


def test_a_long_list_of_mistakes_is_shortened(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("\n".join(f"nonsense{number} = 1" for number in range(100)))
    lines = refusal(tmp_path / "job.toml", {}).splitlines()
    assert len(lines) == 32
    assert lines[-1] == "  and 71 more"  # the path of the input is missing too


def test_a_mistake_in_an_option_has_no_line_number(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text('model = "m"\n[limits]\nconcurrency = 0\n[input]\npath = "x.jsonl"\nmessages = []\n')
    assert refusal(path, {}) == f"{path}:3: limits.concurrency: expected a whole number >= 1"
    assert refusal(path, {"limits": {"concurrency": -1}}) == "limits.concurrency: expected a whole number >= 1"
    assert refusal(path, {"limits": {"concurrency": 1}}) == f"{path}:6: input.messages: is empty"


@pytest.mark.parametrize("name", [*sorted(CHAT_PARAMETERS - {"max_tokens"}), "topP", "Top-P"])
def test_a_request_parameter_at_the_top_level_is_pointed_to_its_table(name: str) -> None:
    message = refusal(None, {name: 1, "model": "m", "input": {"path": "x"}})
    assert "belongs under [params]" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = gpt-4o", ["job.toml:1:", "in quotes", "model = gpt-4o\n          ^"]),
        ('a = 1\nmodel = "x\n', ["job.toml:2:", "closing quote", "^"]),
        ("a = 1\na = 2", ["job.toml:2:", "overwrite"]),
        ("api_key_env = sk-0123456789abcdef", ["job.toml:1:", "****", "^"]),
        ("x = " + "[" * 3000, ["job.toml"]),
        ("x" * 5000 + " y", ["job.toml:1:", "^"]),
        ("=\t1", ["job.toml:1:"]),
        ("", ["input.path is missing"]),
    ],
)
def test_invalid_toml_is_shown_with_its_place_and_no_secret(text: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(text)
    message = refusal(tmp_path / "job.toml", {})
    assert all(word in message for word in words), message
    assert "0123456789" not in message
    assert max(map(len, message.splitlines())) < 300


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('model = "m"'.encode("utf-16"), "UTF-16"),
        (b'name = "x"\nmodel = "\xff"', ":2: is not UTF-8"),
        (b"\x00\x01\x02", "not valid TOML"),
    ],
)
def test_a_file_that_is_not_text_is_not_a_job(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_bytes(data)
    assert words in refusal(tmp_path / "job.toml", {})


def test_a_file_from_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(b'\xef\xbb\xbfmodel = "m"\r\n[input]\r\npath = "x.jsonl"\r\nprompt = """a\r\nb"""\r\n')
    assert read_job(path, {}, {}).input.prompt == "a\nb"


def test_a_missing_file_is_reported_with_the_closest_one(tmp_path: Path) -> None:
    for name in ("quickstart.toml", "t.toml", "quikstart.jsonl"):
        (tmp_path / name).write_text("")
    assert refusal(tmp_path / "quikstart.toml", {}).endswith(f"did you mean {tmp_path}/quickstart.toml?")
    assert "is a folder" in refusal(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('params.response_format={"type": "json_object"}', {"params": {"response_format": {"type": "json_object"}}}),
        ('params.tools=[{"type": "function", "x": null}]', {"params": {"tools": [{"type": "function", "x": None}]}}),
        ('params.stop=["a"]', {"params": {"stop": ["a"]}}),
        ('params.stop=["a", {"b": 1}]', {"params": {"stop": ["a", {"b": 1}]}}),
        ('params.extra={a = "b"}', {"params": {"extra": {"a": "b"}}}),
        ("params.stop=[", {"params": {"stop": "["}}),
        ("params.user={name}", {"params": {"user": "{name}"}}),
        ("params.user=a=b", {"params": {"user": "a=b"}}),
        ("params.seed=5", {"params": {"seed": 5}}),
        ("params.temperature=.5", {"params": {"temperature": 0.5}}),
        ("params.temperature=1.", {"params": {"temperature": 1.0}}),
        ("params.logprobs=True", {"params": {"logprobs": True}}),
        ("params.seed=null", {"params": {"seed": None}}),
        ("limits.concurrency=None", {"limits": {"concurrency": None}}),
        ("params.tool_choice=none", {"params": {"tool_choice": "none"}}),
        ("params.user='null'", {"params": {"user": "null"}}),
        ("input.system=null", {"input": {"system": "null"}}),
        ("params.user=Truely", {"params": {"user": "Truely"}}),
        ("model=.5", {"model": ".5"}),
        ("model=gpt-4o", {"model": "gpt-4o"}),
        ("model=5", {"model": "5"}),
        ("model='5'", {"model": "5"}),
        ('input.prompt={"a": {{ x }}}', {"input": {"prompt": '{"a": {{ x }}}'}}),
        ('input.prompt={"a": 1}', {"input": {"prompt": '{"a": 1}'}}),
        ("input.prompt=1\nmodel = 'x'", {"input": {"prompt": "1\nmodel = 'x'"}}),
        ("params.user=1\nmodel = 'x'", {"params": {"user": "1\nmodel = 'x'"}}),
        (
            'input.messages=[{"role": "user", "content": "{{ x }}"}]',
            {"input": {"messages": [{"role": "user", "content": "{{ x }}"}]}},
        ),
        ('prices."gpt-4.1".input=3', {"prices": {"gpt-4.1": {"input": 3}}}),
        ("provider.headers.X=5", {"provider": {"headers": {"X": "5"}}}),
        ('models=[{"id": "a"}]', {"models": [{"id": "a"}]}),
    ],
)
def test_a_setting_takes_text_toml_or_json(text: str, value: dict[str, Any]) -> None:
    assert parse_setting(text) == value


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-infinity", "inf", '{"a": NaN}'])
def test_numbers_that_json_lacks_are_refused(text: str) -> None:
    assert "inf and nan are not allowed" in refusal(None, parse_setting(f"params.x={text}"))


def test_a_table_is_taken_for_a_table() -> None:
    assert "unknown setting limit: did you mean limits?" in refusal(None, parse_setting("limit.concurrency=4"))


LOST = ["params.x={type:json_object}", "params.x={'a': 1}", "params.stop=[a,b]", "params.stop=['a', 'b'"]
"""Values as a shell or Python turns JSON into."""


@pytest.mark.parametrize(
    "text", [*LOST, 'params.x={"a": ', 'params.tools=[{"a": 1]', "nonsense", "=1", "a b=1", "a.=1"]
)
def test_a_setting_that_is_neither_text_toml_nor_json_is_refused(text: str) -> None:
    with pytest.raises(JobError, match="--set"):
        parse_setting(text)


ADDRESSES = [
    "s3://bucket/run", "S3://b", "s3a://b/x", "gs://b", "gcs://b", "az://b", "abfs://c@a/x", "hf://datasets/x",
    "http://host/x", "https://host/x", "hdfs://x", "ftp://x", "s3:/bucket/run", "file:///tmp/x", "custom+x://y",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_remote_address_is_not_a_path(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = {"model": "m", "input": {"path": "x.jsonl"}}
    for setting, value in {
        **({} if is_remote(address) else {"output": {"path": address}}),
        "reuse": {"from": [address]},
        **({} if is_url(address) else {"input": {"path": address}}),
        "eval": {"against": address, "scorers": [{"kind": "regex", "pattern": "x"}]},
    }.items():
        message = refusal(None, {**job, setting: value})
        assert message.startswith(f"{setting}."), message
        assert "copy" in message or "without file:" in message


@pytest.mark.parametrize("path", ["C:", "C:/x", "a:b/c", "runs/s3:/x", "s3:", "s3", "x/http://y", "{name}:{date}"])
def test_a_colon_in_a_path_is_part_of_the_path(path: str) -> None:
    job = read_job(None, {"model": "m", "input": {"path": "x.jsonl"}, "output": {"path": path}}, {})
    assert job.output.path.startswith(str(Path.cwd()))


def test_an_existing_folder_named_like_a_url_scheme_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    job = read_job(None, {"model": "m", "input": {"path": "x.jsonl"}, "output": {"path": "s3:/x"}}, {})
    assert job.output.path == str(tmp_path / "s3:" / "x")


def test_an_unknown_users_home_is_refused() -> None:
    message = refusal(None, {"model": "m", "input": {"path": "x.jsonl"}, "output": {"path": "~nobody-has-this/x"}})
    assert message == "output.path: ~nobody-has-this: there is no such user"


@pytest.mark.parametrize(
    ("file", "name"), [("new\nline.jsonl", "new_line"), ("\x1b[31m.csv", "_31m"), ("x" * 240 + ".jsonl", "x" * 200)]
)
def test_a_file_name_is_turned_into_a_valid_job_name(file: str, name: str) -> None:
    assert read_job(None, {"input": {"path": file}, "model": "m"}, {}).name == name
