"""The reference of the job file has every key with its type and default, and examples that are accepted."""

from __future__ import annotations

import json
import tomllib
import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from batchmix.job import DEFAULT_BASE_URL, merge_settings, read_job
from batchmix.job.columns import checked_type
from batchmix.job.table import JobTable
from batchmix.scorers.kinds import KINDS
from batchmix.scorers.settings import ScorerSettings
from tests.documents import PAGES, ROOT, blocks, page, quoted, table

Setting = tuple[str, str, str | None]
"""A key, its type and its default, as the reference writes them."""


def type_text(kind: Any) -> str:
    """Return the name of a setting's type in the reference."""
    bounds, origin, inner = "", typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        kind, meta = inner[0], inner[1]
        bounds = f", > {meta.gt}" if meta.gt is not None else f", ≥ {meta.ge}"
        if meta.le is not None and meta.le < 1e9:
            bounds = f", {meta.ge} to {meta.le:,}"
    elif origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(type_text(one) for one in inner if one is not type(None)))
    elif origin is typing.Literal:
        return f"{', '.join(f'`{one}`' for one in inner[:-1])} or `{inner[-1]}`"
    elif origin is tuple and inner[-1] is not Ellipsis:
        return f"two {type_text(inner[0])}s"
    elif origin is tuple:
        return f"list of {type_text(inner[0]).replace('text', 'texts').replace('table', 'tables')}"
    elif origin is dict:
        return {"text": "table of texts", "table": "table of tables"}.get(type_text(inner[1]), "table")
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "table"
    names = {str: "text", int: "integer", float: "number", bool: "boolean"}
    return names.get(kind, str(kind)) + bounds


def default_text(field: msgspec.structs.FieldInfo) -> str | None:
    """Return a setting's default as TOML; None if TOML cannot express it."""
    if field.required:
        return "required"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if default in (None, "") or isinstance(default, msgspec.Struct):
        return None
    return f"`{json.dumps(list(default) if isinstance(default, tuple) else default)}`"


def structs(kind: Any) -> list[type[msgspec.Struct]]:
    """Return the tables that a setting may contain, directly or as items."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [struct for one in typing.get_args(kind) for struct in structs(one)]


def sections(table: type[msgspec.Struct], at: tuple[str, ...] = ()) -> Iterator[tuple[str, list[type[msgspec.Struct]]]]:
    """Yield the heading of each table of the reference with its settings, each table once."""
    yield "Top level" if not at else f"`[{'.'.join(at)}]`", [table]
    for field in msgspec.structs.fields(table):
        below, here = structs(field.type), (*at, field.encode_name)
        if len(below) > 1:
            yield f"`[[{'.'.join(here)}]]`", below
        elif below and not (at and at[0] in {"models", "steps"}):  # their tables are those of the top level
            is_list = any(typing.get_origin(one) is tuple for one in (field.type, *typing.get_args(field.type)))
            for heading, found in sections(below[0], here):
                yield heading.replace("[", "[[").replace("]", "]]") if is_list and found == below else heading, found


SECTIONS = dict(sections(JobTable))


def rows_of(struct: type[msgspec.Struct]) -> list[Setting]:
    return [(field.encode_name, type_text(field.type), default_text(field)) for field in msgspec.structs.fields(struct)]


def documented(rows: list[dict[str, str]], wanted: list[Setting]) -> list[Setting]:
    """Return the settings of a table; a default described in prose is None if the code has none."""
    in_words = {key for key, _, default in wanted if default is None}
    found = []
    for row in rows:
        key, default = quoted(row["key"])[0], row["default"]
        assert default
        assert default != "required" or key not in in_words
        found.append((key, row["type"], None if key in in_words else default))
    return sorted(found)


@pytest.mark.parametrize("heading", [heading for heading, found in SECTIONS.items() if len(found) == 1])
def test_the_reference_has_each_key_with_its_type_and_default(heading: str) -> None:
    wanted = sorted(rows_of(SECTIONS[heading][0]))
    assert documented(table("jobs/job-file.md", "key", "type", "default", heading=heading), wanted) == wanted


def test_the_reference_has_each_key_of_each_scorer() -> None:
    scorers = SECTIONS["`[[eval.scorers]]`"]
    shared_keys = len(ScorerSettings.__struct_fields__)
    common = sorted(rows_of(scorers[0])[:shared_keys])
    shared = table("jobs/job-file.md", "key", "type", "default", heading="`[[eval.scorers]]`")
    assert documented(shared, common) == common
    rows = table("jobs/job-file.md", "kind", "key", "type", "default")
    for scorer in scorers:
        assert sorted(rows_of(scorer)[:shared_keys]) == common
        mine = [row for row in rows if row["kind"] == f"`{scorer.__struct_config__.tag}`"]
        own = sorted(rows_of(scorer)[shared_keys:])
        assert documented(mine, own) == own
    kinds = [f"`{scorer.__struct_config__.tag}`" for scorer in scorers]
    assert [row["kind"] for row in table("jobs/evaluation.md", "kind")] == kinds
    with_keys = {f"`{scorer.__struct_config__.tag}`" for scorer in scorers if len(rows_of(scorer)) > shared_keys}
    assert {row["kind"] for row in rows} == with_keys


BASE: dict[str, Any] = {"model": "gpt-4o-mini", "input": {"path": "rows.jsonl"}}
MOOD = {"type": "object", "properties": {"mood": {"type": "string"}}}
NEEDED = {
    "`[input]`": lambda given: {"input": {"path": "", **given} if {"run", "query"} & given.keys() else given},
    "`[[input.columns]]`": lambda given: {"input": {"columns": [{"from": "a", **given}]}},
    "`[[steps]]`": lambda given: {
        "steps": [{"name": "draft"} | ({} if "messages" in given else {"prompt": "{{ text }}"}) | given]
    },
    "`[[models]]`": lambda given: {"models": [{"id": "m", **given}]},
    "`[prices]`": lambda given: {"prices": {"m": {"input": 1, "output": 1, **given}}},
    "`[schedule]`": lambda given: {"schedule": {"cron": "30 2 * * *", **given}},
    "`[answer]`": lambda given: {"answer": {"schema": MOOD, **given}},
    "`[eval]`": lambda given: {"eval": {"target": "t", "scorers": [{"kind": "exact"}], **given}},
    "`[[eval.scorers]]`": lambda given: {"eval": {"target": "t", "scorers": [{"kind": "exact", **given}]}},
    "`[[eval.guards]]`": lambda given: {"eval": {"target": "t", "scorers": [{"kind": "exact"}], "guards": [given]}},
    "Top level": lambda given: given,
}
"""The settings that make a job of one key of a table."""
NEEDED_OF = {
    "regex": {"pattern": "x"},
    "own": {"python": "a:b"},
    "judge": {"model": "m", "rubric": "{{ response }}"},
    "labels": {"path": "labels.csv"},
}

NEEDED_OF_KEY = {
    ("judge", "models"): {"model": ""},
    ("judge", "pairwise"): {"rubric": "{{ response }} or {{ other }}?", "against": "runs/a"},
    ("judge", "against"): {"rubric": "{{ response }} or {{ other }}?"},
}
"""What else the example of one key needs."""


def test_each_example_in_the_reference_is_accepted() -> None:
    for heading in SECTIONS:
        for row in table("jobs/job-file.md", "key", "type", "default", heading=heading):
            key, value = quoted(row["key"])[0], tomllib.loads(f"x = {row['example'].strip('`')}")["x"]
            given = {key: value}
            check_accepted(NEEDED[heading](given) if heading in NEEDED else {heading.strip("`[]"): given})
    for row in table("jobs/job-file.md", "kind", "key"):
        kind, key = quoted(row["kind"])[0], quoted(row["key"])[0]
        value = tomllib.loads(f"x = {row['example'].strip('`')}")["x"]
        takes_target = next(one.takes_target for one in KINDS if one.__struct_config__.tag == kind)
        needed = {**NEEDED_OF.get(kind, {}), **NEEDED_OF_KEY.get((kind, key), {})}
        scorer = {"kind": kind, **({"target": "t"} if takes_target else {}), **needed, key: value}
        check_accepted({"eval": {"scorers": [scorer]}})


def check_accepted(settings: dict[str, Any]) -> None:
    names_models = "models" in settings or "model" in settings.get("input", {})
    read_job(None, merge_settings([{"input": BASE["input"]} if names_models else BASE, settings]), {})


def test_each_job_in_the_pages_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "jobs")  # which has the schemas that they name
    for path in PAGES:
        for block in blocks(path.read_text(), "toml"):
            given = tomllib.loads(block)
            read_job(None, given if "input" in given else merge_settings([BASE, given]), {})


def test_the_reference_names_the_gateway_and_the_types_of_columns() -> None:
    assert DEFAULT_BASE_URL in page("jobs/job-file.md")
    for row in table("jobs/input.md", "type", "also called"):
        name = quoted(row["type"])[0]
        assert checked_type(name) == name
        for other in quoted(row["type"]):
            checked_type(other)
        for other in quoted(row["also called"]):
            assert checked_type(other).partition("(")[0].startswith((name.partition("(")[0], "int"))
