"""The documentation agrees with the code: keys, columns, commands, codes, links and paths."""

from __future__ import annotations

import ast
import importlib
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from batchmix import errors
from batchmix.cli import cli
from batchmix.engine.run_status import Idle, LaneStatus, Phase, RunStatus
from batchmix.errors import FailureAction
from batchmix.evaluation.measure import ModelMetrics, ScoreMetrics
from batchmix.evaluation.scoring import SCORES_SCHEMA
from batchmix.load.sources import FORMATS
from batchmix.progress.lines import bar_lines
from batchmix.records import Bottleneck, Usage
from batchmix.responses.endpoints import SUPPORTED
from batchmix.responses.error_rules import RULES, UNKNOWN
from batchmix.scorers.kinds import KINDS
from batchmix.scorers.settings import ScorerSettings
from batchmix.statistics.metrics import Estimate
from batchmix.store.result_columns import COLUMNS
from batchmix.store.run_folder import Start
from batchmix.store.schema import RESULT_SCHEMA
from batchmix.verdict.history import HISTORY_SCHEMA
from batchmix.verdict.verdict_file import Verdict
from tests.conftest import Bench
from tests.documents import PAGES, ROOT, anchors, blocks, links, page, quoted, table, tables, without_blocks

PACKAGE = ROOT / "batchmix"
SOURCES = {path: path.read_text() for path in PACKAGE.rglob("*.py")}


def schema_rows(rows: list[dict[str, str]]) -> dict[str, str]:
    return {quoted(row["column"])[0]: quoted(row["type"])[0] for row in rows}


def test_the_reference_has_each_column_with_its_type() -> None:
    def of(schema: pa.Schema) -> dict[str, str]:
        return {field.name: str(field.type) for field in schema}

    results = table("jobs/output.md", "column", "type", "null")
    assert list(schema_rows(results).items()) == list(of(RESULT_SCHEMA).items())
    typed = {quoted(row["typed column"])[0]: row["type"].strip("`") for row in table("jobs/output.md", "typed column")}
    of_schema = typed.pop("answer")
    assert "answers.md#columns" in of_schema
    assert typed == {column.name: str(column.type) for column in COLUMNS if column.typed}
    for name, schema in (("`scores.parquet`", SCORES_SCHEMA), ("`history.parquet`", HISTORY_SCHEMA)):
        assert schema_rows(table("jobs/evaluation.md", "column", heading=name)) == of(schema)


def test_columns_are_null_exactly_where_the_reference_allows_it(bench: Bench) -> None:
    texts = ["plain", "[[rehearsal:reject]]", "[[rehearsal:400_content]]", "[[rehearsal:501]]", None]
    bench.source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    bench.settings["retry"] = {"attempts": 1}
    view = bench.run(reject_bad_rows=True)
    found = pq.read_table(bench.out / "data")
    assert set(found["status"].to_pylist()) == {"ok", "failed", "rejected"}
    never = {quoted(row["column"])[0] for row in table("jobs/output.md", "column") if row["null"] == "never"}
    assert {name for name in RESULT_SCHEMA.names if not found[name].null_count} == never
    is_ok = pc.equal(found["status"], "ok")
    for name in ("error_type", "error_message"):
        assert found[name].is_null().equals(is_ok)
    assert found.filter(pc.equal(found["request_hash"], ""))["error_type"].to_pylist() == ["bad_row"]
    keys = [key for row in table("jobs/output.md", "key") for key in quoted(row["key"])]
    assert sorted(keys) == sorted(view.summary())


def test_the_pages_have_each_key_of_the_metrics_and_of_a_start() -> None:
    for name, column, struct in (
        ("jobs/evaluation.md", "`models`", ModelMetrics),
        ("jobs/evaluation.md", "`scores`", ScoreMetrics),
        ("jobs/evaluation.md", "`verdict.json`", Verdict),
        ("jobs/output.md", "`starts`", Start),
    ):
        keys = [key for row in table(name, column) for key in quoted(row[column])]
        assert sorted(keys) == sorted(struct.__struct_fields__), column
    (score,) = [row for row in table("jobs/evaluation.md", "`scores`") if row["`scores`"] == "`score`"]
    assert quoted(score["what it holds"]) == list(Estimate.__struct_fields__)


def test_the_pages_have_what_a_finished_scheduled_run_reports_and_what_limits_a_run() -> None:
    message = (PACKAGE / "schedule" / "finish_message.py").read_text()
    for row in table("jobs/schedule.md", "key"):
        assert all(f'"{key}"' in message for key in quoted(row["key"]) if key != "verdict.json")
    limits = [value for row in table("jobs/limits.md", "value") for value in quoted(row["value"])]
    assert sorted(["", *limits]) == sorted([*Bottleneck, *Idle])


def test_the_pages_have_each_input_format_endpoint_and_scorer() -> None:
    words = set(quoted(without_blocks(page("jobs/input.md"))))
    assert {suffix for one in FORMATS for suffix in one.suffixes} | set(SUPPORTED) <= words
    kinds = {str(one.__struct_config__.tag): one for one in KINDS}
    assert sorted(kinds) == sorted(quoted(row["kind"])[0] for row in table("jobs/evaluation.md", "kind"))
    keys = {(quoted(row["kind"])[0], quoted(row["key"])[0]) for row in table("jobs/job-file.md", "kind", "key")}
    common = set(ScorerSettings.__struct_fields__)
    assert keys == {(kind, key) for kind, one in kinds.items() for key in set(one.__struct_fields__) - common}


# Failures and commands


EFFECTS = {
    FailureAction.REJECT: "rejected",
    FailureAction.RETRY: "failed",
    FailureAction.PAUSE: "failed",
    FailureAction.STOP_PATH: "stops the path",
    FailureAction.STOP_MODEL: "stops the model",
    FailureAction.STOP_RUN: "stops the run",
}


def test_the_table_of_failures_has_each_kind_with_its_effect() -> None:
    effects = {
        quoted(row["`error_type`"])[0]: set(row["effect"].split(", "))
        for row in table("jobs/failures.md", "`error_type`")
    }
    by_rule: dict[str, set[str]] = {}
    for rule in (*RULES, UNKNOWN):
        by_rule.setdefault(rule.type, set()).update(
            EFFECTS[action] for action in (rule.action, rule.early_action) if action
        )
    for name, found in by_rule.items():
        assert effects[name] >= found, name
    in_code = {value for source in SOURCES.values() for value in literal_types(source)}
    assert in_code - set(effects) == set()
    for name in set(effects) - set(by_rule):
        assert any(f'"{name}"' in source for source in SOURCES.values()), name


def literal_types(source: str) -> Iterator[str]:
    """Yield the types of failure that are not created by the rules."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Failure":
            kinds = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "type")]
            yield from (kind.value for kind in kinds if isinstance(kind, ast.Constant))


def test_the_page_of_commands_has_each_with_its_options_and_the_exit_codes() -> None:
    rows = {quoted(row["command"])[0]: quoted(row["options"]) for row in table("jobs/commands.md", "command")}
    assert sorted(rows) == sorted(cli.list_commands(click.Context(cli)))
    for name, named in rows.items():
        command: click.Command = importlib.import_module(f"batchmix.cli.{name}").command
        options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
        assert named == [one.opts[-1] for one in options if one.opts[-1] != "--verbose"]
    raised = {one.exit_code for one in vars(errors).values() if isinstance(one, type) and hasattr(one, "exit_code")}
    signals = {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    codes = [int(code) for row in table("jobs/commands.md", "exit code") for code in row["exit code"].split(", ")]
    assert codes == sorted({0, 1} | raised | signals)


# The pages themselves


def test_the_readme_is_short_and_its_two_commands_are_found() -> None:
    assert len(page("README.md").splitlines()) <= 200
    lines = [line for block in blocks(page("README.md"), "sh") for line in block.splitlines()]
    first = [next(line for line in lines if text in line) for text in ("jobs/quickstart.toml", "pytest")]
    assert first[0].endswith(".venv/bin/batchmix run jobs/quickstart.toml")
    assert first[1].endswith(".venv/bin/pytest -q -n 4")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_has_a_target(path: Path) -> None:
    for target in links(path.read_text()):
        name, _, anchor = target.partition("#")
        other = (path.parent / name).resolve() if name else path
        assert other.exists(), target
        assert not anchor or anchor in anchors(other.read_text()), target


def test_the_pages_for_users_are_all_in_their_index() -> None:
    named = {
        quoted(row["page"])[0] if "`" in row["page"] else row["page"].strip("[").partition("]")[0]
        for row in table("jobs/README.md", "page")
    }
    assert named == {path.name for path in (ROOT / "jobs").glob("*.md")} - {"README.md"}


def test_the_readme_shows_the_bar_as_it_is() -> None:
    def lane(model: str, ok: int, price: tuple[float, float], limited_by: Bottleneck) -> LaneStatus:
        def usd_of(usage: Usage) -> float:
            return (price[0] * (usage.prompt_tokens or 0) + price[1] * (usage.completion_tokens or 0)) / 1e6

        return LaneStatus(
            model, results=100_000, ok=ok, failed=1, in_flight=180, retrying=3, prompt_tokens=60 * ok,
            completion_tokens=25 * ok, usd_of=usd_of, limited_by=limited_by,
        )  # fmt: skip

    lanes = [
        lane("gpt-4o-mini", 61_204, (0.15, 0.6), Bottleneck.REQUESTS),
        lane("gpt-4.1-mini", 38_870, (0.4, 1.6), Bottleneck.TOKENS),
    ]
    run_status = RunStatus(phase=Phase.SENDING, results=200_000, lanes=lanes)
    shown = "\n".join(bar_lines(run_status, [(166.7, 14_000.0), (105.2, 9_000.0)], 99, 24))
    assert f"$ batchmix run reviews.toml\n{shown}\n" in blocks(page("README.md"), "")


# The pages for maintainers and contributors


@pytest.mark.parametrize("name", ["batchmix/README.md", "tests/README.md"])
def test_every_file_and_name_in_the_page_exists(name: str) -> None:
    for token in quoted(without_blocks(page(name))):
        path, _, inside = token.partition(": ")
        if re.fullmatch(r"[\w/]+\.py|(tests|jobs)[/.].*", path):
            assert file_of(path).exists(), token
            assert not inside or inside in defined_in(file_of(path).read_text()), token


def file_of(path: str) -> Path:
    """Return the file that a page names: by its path in the package or the repository, or as a module."""
    if re.fullmatch(r"tests(\.\w+)+", path):
        package = ROOT / path.replace(".", "/")
        return package if package.is_dir() else package.with_suffix(".py")
    return PACKAGE / path if (PACKAGE / path).exists() else ROOT / path


def defined_in(source: str) -> set[str]:
    """Return the names that a module defines at its top level, and the methods of its classes."""
    names = set[str]()
    for node in ast.parse(source).body:
        match node:
            case ast.ClassDef(name=name, body=body):
                names |= {name, *(f"{name}.{one.name}" for one in body if isinstance(one, ast.FunctionDef))}
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


def test_the_page_for_maintainers_has_each_module_once() -> None:
    listed = [
        quoted(row["module"])[0] for _, rows in tables(page("batchmix/README.md")) for row in rows if "module" in row
    ]
    modules = [str(path.relative_to(PACKAGE)) for path in SOURCES if path.name != "__init__.py"]
    assert sorted(listed) == sorted(modules)
    rooms = [quoted(row["room"])[0] for row in table("batchmix/README.md", "room")]
    assert sorted(rooms) == sorted(f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py"))
