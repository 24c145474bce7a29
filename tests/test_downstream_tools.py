"""Tools that are too large for the suite's environment read the runs of three nights, each in an environment of its own.

pytest's cache keeps the environments. A tool that can't be installed, or lacks a Java runtime, is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Bench
from tests.documents import ROOT, blocks, page
from tests.serving import package_environment
from tests.test_downstream import NIGHTS, nights, run_night

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("all_at_once")]
EACH_NIGHT = [
    [str(night), f"news/{night}", 12, None if score is None else 12 * score]
    for night, score in zip(NIGHTS, (None, 3.0, 0.5), strict=True)
]
"""The rows of each night, and the sum of a column that is all null, whole or fractional."""
RECIPES = page("jobs/downstream.md").replace("nightly-capitals", "news")


@pytest.fixture
def runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    nights(bench, monkeypatch, type="double")
    return bench


def output(program: Path, *words: str, **environ: str) -> str:
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False, env=os.environ | environ)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def line_with(text: str) -> str:
    """Return the code with a text in it that stands in a line of the page."""
    return next(code for code in RECIPES.split("`") if text in code)


SPARK = """
import json, sys
from pyspark.sql import SparkSession, functions as f

session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
spark = session.config("spark.sql.shuffle.partitions", "1").config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
table = {line}
grouped = table.groupBy("night", "run").agg(f.count("*").alias("n"), f.sum("score").alias("s")).orderBy("night")
failed = table.where("status = 'failed'").select("row")
plan = failed._jdf.queryExecution().toString()
print(json.dumps([[[str(r.night), r.run, r.n, r.s] for r in grouped.collect()], failed.count(), plan]))
"""


def test_spark(runs: Bench, pytestconfig: pytest.Config) -> None:
    if shutil.which("java") is None:
        pytest.skip("needs a Java runtime, such as Debian's openjdk-17-jre-headless")
    python = package_environment(pytestconfig, "pyspark", "pyspark") / "bin" / "python"
    found = output(python, "-c", SPARK.replace("{line}", line_with("spark.read")), SPARK_LOCAL_IP="127.0.0.1")
    table, failed, plan = json.loads(found.splitlines()[-1])
    assert (table, failed) == (EACH_NIGHT, 0)
    assert "EqualTo(status,failed)" in plan  # it is pushed down
    assert "raw" not in plan.partition("ReadSchema")[2]


def test_clickhouse(runs: Bench, pytestconfig: pytest.Config) -> None:
    python = package_environment(pytestconfig, "chdb", "chdb") / "bin" / "python"
    query = line_with("from file(").replace("select night, count()", "select night, any(run), count(), sum(score)")
    code = f"import chdb; print(chdb.query({query + ' order by night'!r}, 'JSONCompactEachRow'))"
    found = [json.loads(line) for line in output(python, "-c", code).splitlines() if line]
    assert [[night, run, int(count), total] for night, run, count, total in found] == EACH_NIGHT


def test_dbt(runs: Bench, pytestconfig: pytest.Config) -> None:
    """The model loads a night, then only what is later, and a night again that has changed."""
    folder = package_environment(pytestconfig, "dbt", "dbt-core<1.11", "dbt-duckdb<1.10")
    [model] = blocks(RECIPES, "sql")
    project = runs.root / "project"
    (project / "models").mkdir(parents=True)
    (project / "models" / "answers.sql").write_text(model)
    (project / "dbt_project.yml").write_text("name: news\nprofile: news\n")
    database = runs.root / "dbt.db"
    profile = {"news": {"target": "dev", "outputs": {"dev": {"type": "duckdb", "path": str(database)}}}}
    (project / "profiles.yml").write_text(json.dumps(profile))  # JSON is YAML
    later = Path(f"runs/news/{NIGHTS[2]}").rename(runs.root / "later")

    def build() -> list[list[object]]:
        where = ("--project-dir", str(project), "--profiles-dir", str(project))
        output(folder / "bin" / "dbt", "run", *where, DO_NOT_TRACK="1", DBT_SEND_ANONYMOUS_USAGE_STATS="false")
        query = "select night::text as evening, run, count(*), sum(score) from answers group by all order by evening"
        code = f"import duckdb, json; print(json.dumps(duckdb.connect({str(database)!r}).sql({query!r}).fetchall()))"
        found: list[list[object]] = json.loads(output(folder / "bin" / "python", "-c", code))
        return found

    assert build() == EACH_NIGHT[:2]
    later.rename(f"runs/news/{NIGHTS[2]}")
    assert build() == EACH_NIGHT
    with runs.source.open("a") as file:
        file.write('{"text": "one more", "score": 1}\n')
    run_night(runs, NIGHTS[2])
    assert build() == [*EACH_NIGHT[:2], [str(NIGHTS[2]), f"news/{NIGHTS[2]}", 13, 7.0]]


def test_prefect(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """A flow runs a night in its worker; the same flow again sends nothing."""
    python = package_environment(pytestconfig, "prefect", "prefect", str(ROOT)) / "bin" / "python"
    [recipe] = blocks(RECIPES, "py")
    recipe = recipe.replace("jobs/nightly/capitals.toml", str(ROOT / "jobs" / "nightly" / "capitals.toml"))
    calls = """
night = datetime.date(2026, 11, 27)
folder = nightly(night)
again = nightly(night)
run = bm.open(again)
print(folder == again, run.summary["attempts"] == run.summary["results"], run.status, folder)
"""
    script = tmp_path / "flow.py"
    script.write_text(recipe + calls)
    private = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_LOGGING_LEVEL": "ERROR", "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [python, script], cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ | private
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == f"True True finished {tmp_path}/runs/nightly-capitals/2026-11-27"
