"""A checked job can be written down as settings and as a job file, and read again."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.errors import JobError
from batchmix.job import CheckedJob, job_settings, read_job, to_toml

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "jobs").rglob("*.toml"))

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
words = st.text("abcdeé-_ .\"'", min_size=1, max_size=8).filter(str.strip)
numbers = st.floats(0.001, 1e6) | st.integers(1, 10_000)
values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
params = st.dictionaries(st.sampled_from(["temperature", "seed", "stop", "user", "max tokens"]), values, max_size=3)


def table(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


limits = table(requests_per_minute=numbers, tokens_per_minute=numbers, concurrency=st.sampled_from([1, 512, 2000]))
prices = st.fixed_dictionaries({"input": numbers, "output": numbers}, optional={"cache_read": numbers})
models = st.lists(
    st.fixed_dictionaries(
        {"id": words, "name": words}, optional={"params": params, "limits": limits, "prices": prices}
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda entry: str(entry["name"]),
) | st.lists(st.fixed_dictionaries({"id": words}), min_size=1, max_size=1)
columns = st.lists(
    words | st.fixed_dictionaries({"from": words}, optional={"to": words}), max_size=3, unique_by=lambda c: str(c)
)
messages = st.lists(st.fixed_dictionaries({"role": words, "content": texts}), min_size=1, max_size=2)
inputs = st.builds(
    dict.__or__,
    st.fixed_dictionaries({"path": st.sampled_from(["-", "rows.jsonl", "data/*.parquet", "/a/{b}/c d.csv"])}),
    table(prompt=texts, system=texts, id=words, columns=columns) | table(messages=messages, params=words),
)
evaluations = st.fixed_dictionaries(
    {
        "scorers": st.lists(
            st.fixed_dictionaries({"kind": st.sampled_from(["exact", "json"])}, optional={"casefold": st.booleans()})
            | st.fixed_dictionaries({"kind": st.just("number"), "name": st.just("n")}, optional={"tolerance": numbers})
            | st.just({"kind": "judge", "model": "m", "rubric": "{{ response }}\r\n", "scale": [1, 5]}),
            min_size=1,
            max_size=3,
            unique_by=lambda scorer: str(scorer.get("name", scorer["kind"])),
        ),
        "target": words,
    },
    optional={
        "group_by": st.lists(words, max_size=2, unique=True),
        "guards": st.lists(
            table(metric=st.sampled_from(["score", "cost_usd"]), min=numbers),
            max_size=2,
            unique_by=lambda guard: guard.get("metric", "score"),
        ),
    },
)
answers = st.fixed_dictionaries(
    {
        "schema": st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.dictionaries(
                    st.sampled_from(["token", "password", "a b", "é"]),
                    st.sampled_from([{"enum": ["\r\n", None]}, {"default": None, "type": ["number", "null"]}, {}]),
                    min_size=1,
                ),
            }
        )
    },
    optional={
        "send": st.sampled_from(["auto", "prompt", "tool"]),
        "repair": st.integers(0, 10),
        "on_invalid": st.sampled_from(["fail", "keep"]),
        "flatten": st.booleans(),
    },
)
jobs = st.builds(
    dict.__or__,
    st.fixed_dictionaries(
        {"input": inputs},
        optional={
            "name": words.filter(lambda name: name not in {".", ".."}),
            "samples": st.integers(1, 5),
            "params": params,
            "provider": table(
                base_url=st.sampled_from(["rehearsal:?latency=0.1", "http://127.0.0.1:1/v1"]),
                api_key_env=st.sampled_from(["", "KEY"]),
                headers=st.dictionaries(st.sampled_from(["X-A", "X.B"]), words | st.just("env:NAME")),
            ),
            "limits": limits,
            "retry": table(attempts=st.integers(1, 9), outage_s=numbers),
            "timeouts": table(total_s=numbers, row_s=numbers, drain_s=numbers),
            "budget": table(max_usd=numbers, max_tokens=st.integers(1, 2**70)),
            "reuse": table(**{"from": st.lists(words.filter(lambda word: "." not in word), max_size=2)}),
            "prices": st.dictionaries(words, prices, max_size=2),
            "output": table(
                path=st.sampled_from(["runs/{name}", "{date}", "a/{{x}}/b"]), shard_rows=st.integers(1, 20_000),
                raw=st.booleans(), mode=st.sampled_from(["0640", "600"]),
            ),
            "answer": answers,
            "eval": evaluations,
            "schedule": st.fixed_dictionaries(
                {"cron": st.just("30 2 * * *")}, optional={"on_finish": st.just(["notify", "--json"])}
            ),
        },
    ),
    st.just({}) | st.fixed_dictionaries({"models": models}) | st.fixed_dictionaries({"model": words}),
)  # fmt: skip


def as_json(job: CheckedJob, order: Literal["sorted"] | None = None) -> bytes:
    """Return all of a job but where its parameters and its date were given. In JSON, 1, 1.0 and true differ."""
    job = msgspec.structs.replace(
        job,
        places={},
        night=None,
        scorer_folder="",
        models=tuple(msgspec.structs.replace(model, places={}) for model in job.models),
    )
    return msgspec.json.encode(job, order=order)


@given(jobs)
def test_a_job_is_the_same_after_it_was_written_as_settings_or_as_a_file(settings: dict[str, Any]) -> None:
    job = read_job(None, settings, {})
    assert as_json(read_job(None, job_settings(job), {})) == as_json(job)
    # TOML has the tables below the other keys.
    assert as_json(read_job(None, tomllib.loads(to_toml(job)), {}), "sorted") == as_json(job, "sorted")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_job_file_is_the_same_after_it_was_written_again(path: Path, tmp_path: Path) -> None:
    job = read_job(path, {}, {})
    again = tmp_path / "job.toml"
    again.write_text(to_toml(job))
    assert as_json(read_job(again, {}, {})) == as_json(job)


def test_the_text_reads_like_a_job_file_and_holds_no_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = read_job(ROOT / "jobs" / "quickstart.toml", {"limits": {"concurrency": 64}}, {})
    folder, rows = re.escape(str(tmp_path)), re.escape(str(ROOT / "jobs" / "data" / "capitals.jsonl"))
    wanted = rf'''# A job of batchmix; what is not here has its default\.
#
#   batchmix run THIS_FILE\.toml

name = "quickstart"
model = "gpt-4o-mini"

\[input\]
path = "{rows}"
prompt = "What is the capital of {{{{ country }}}}\? Answer with its name only\."

\[params\]
temperature = 0
max_tokens = 50

\[provider\]
base_url = "rehearsal:\?latency=0\.05-0\.3&seed=1&500=0\.02"

\[limits\]
concurrency = 64

\[prices\.gpt-4o-mini\]
input = 0\.15
output = 0\.6

\[output\]
path = "{folder}/runs/quickstart"
'''
    assert re.fullmatch(wanted, to_toml(job))


def test_a_null_which_toml_does_not_have_is_refused() -> None:
    job = read_job(None, {"model": "m", "input": {"path": "-"}, "params": {"stop": None}}, {})
    assert job_settings(job)["params"] == {"stop": None}
    with pytest.raises(JobError, match=r"params\.stop: is null, which a TOML file can't hold; give it with --set"):
        to_toml(job)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"provider": {"headers": {"X-App": "secret"}}}, "provider.headers.X-App: is masked (***), since a run folder"
         " keeps no secrets; give it again: --set provider.headers.X-App=env:NAME"),
        ({"params": {"tool": {"api_key": "secret"}}}, "params.tool.api_key: is masked (***), since a run folder keeps"
         " no secrets; give it again: --set params.tool.api_key=…"),
        ({"model": None, "models": [{"id": "m", "params": {"api_key": "secret"}}]}, "models.params.api_key: is masked"
         " (***), since a run folder keeps no secrets; give it again: --set models=…"),
        ({"provider": {"base_url": "rehearsal:?api_key=1"}}, "provider.base_url: is masked (***), since a run folder"
         " keeps no secrets; give it again: --set provider.base_url=…"),
    ],
)  # fmt: skip
def test_a_masked_value_is_refused(settings: dict[str, Any], message: str) -> None:
    given_settings = {"input": {"path": "-"}, "model": "m"} | settings
    job = read_job(None, {key: value for key, value in given_settings.items() if value is not None}, {})
    recorded = msgspec.convert(job.public(), CheckedJob)
    with pytest.raises(JobError, match=f"^{re.escape(message)}$"):
        read_job(None, job_settings(recorded), {})
    with pytest.raises(JobError, match=re.escape(message)):
        read_job(None, tomllib.loads(to_toml(recorded)), {})


def test_a_header_that_names_a_variable_is_kept_and_other_text_may_hold_asterisks() -> None:
    settings = {
        "model": "m",
        "input": {"path": "-", "prompt": "***"},
        "provider": {"headers": {"X-App": "env:APP"}},
    }
    job = read_job(None, settings, {})
    assert as_json(read_job(None, job_settings(msgspec.convert(job.public(), CheckedJob)), {})) == as_json(job)
