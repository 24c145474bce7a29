"""Each scorer gives the score that a person would, explains a missing one, and survives any answer."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchmix.errors import JobError
from batchmix.evaluation.custom_scorer import CustomScorer
from batchmix.evaluation.scoring import score_function
from batchmix.job.eval_table import Scorer
from batchmix.scorers.choices import Choice
from batchmix.scorers.indirect import Custom, Judge
from batchmix.scorers.json_fields import Json
from batchmix.scorers.kinds import KINDS
from batchmix.scorers.labels import Labels
from batchmix.scorers.numbers import Number
from batchmix.scorers.settings import Score, ScorerSettings
from batchmix.scorers.texts import Exact, Includes, Regex, Similarity
from tests.polling import first_line, wait_until


def test_each_kind_of_scorer_is_accepted_in_a_job_file_and_has_a_function() -> None:
    kinds = set(KINDS)
    assert set(typing.get_args(Scorer)) == kinds
    for kind in kinds - {Custom, Judge, Labels}:
        assert kind.score is not ScorerSettings.score or kind.score_function is not ScorerSettings.score_function


def scored(scorer: Scorer, response: str, target: Any = None, folder: Path | None = None) -> Score:
    return score_function(msgspec.structs.replace(scorer, name=scorer.title), folder)(response, target, {"row": 0})


@pytest.mark.parametrize(
    ("scorer", "response", "target", "score"),
    [
        (Exact(), " Paris\n", "Paris", 1),
        (Exact(), "paris", "Paris", 0),
        (Exact(casefold=True), "paris", "Paris", 1),
        (Exact(strip=False), " Paris", "Paris", 0),
        (Exact(), "7", 7.0, 1),
        (Exact(), "true", True, 1),
        (Includes(), "It is PARIS, of course", "Paris", 1),
        (Includes(casefold=False), "It is PARIS", "Paris", 0),
        (Regex(pattern=r"answer: (\w+)"), "so the answer: Paris.", "Paris", 1),
        (Regex(pattern=r"answer: (\w+)"), "so the answer: Rome.", "Paris", 0),
        (Regex(pattern=r"\d{4}"), "in 1999", None, 1),
        (Regex(pattern=r"\d{4}"), "in MCMXCIX", None, 0),
        (Number(), "2 + 2 is 4", 4.0, 1),
        (Number(take="first"), "2 + 2 is 4", 4.0, 0),
        (Number(tolerance=0.01), "3.14", "3.1416", 1),
        (Number(relative=0.01), "995", 1000.0, 1),
        (Number(), "995", 1000.0, 0),
        (Number(), "none", 4.0, 0),
        (Choice(), "The answer is (B)", "B", 1),
        (Choice(letters="ABCDE"), "E", "E", 1),
        (Choice(), "not sure", "B", 0),
        (Json(), '```json\n{"name": "Ann ", "age": 3.0}\n```', '{"name": "Ann", "age": 3}', 1),
        (Json(), '{"name": "Bob", "age": 3, "more": 1}', '{"name": "Ann", "age": 3}', 0.5),
        (Json(fields=("age",)), '{"name": "Bob", "age": 3}', '{"name": "Ann", "age": 3}', 1),
        (Json(), '{"ok": 1}', '{"ok": true}', 0),
        (Json(), "[1, 2]", "[1, 2]", 1),
        (Json(), "no", '{"a": 1}', 0),
        (Similarity(), "kitten", "kitten", 1),
        (Similarity(), "abcd", "abxy", 0.5),
    ],
)  # fmt: skip
def test_an_answer_gets_its_score(scorer: Scorer, response: str, target: Any, score: float) -> None:
    assert scored(scorer, response, target).score == score


def test_a_score_reports_the_compared_value_and_the_error() -> None:
    found = scored(Json(), 'x {"a": 1, "c": 2}', '{"a": 1, "b": 2, "c": 3}')
    assert found == Score(1 / 3, '{"a": 1, "b": 2, "c": 3}', '{"a": 1, "c": 2}', "wrong: b, c")
    assert scored(Number(), "it is 1,000", 1000.0) == Score(1.0, "1000", "1000", None)


@pytest.mark.parametrize(
    ("scorer", "target"), [(Number(), "none"), (Number(), "1 or 2"), (Choice(), "F"), (Json(), "{")]
)
def test_an_invalid_target_gives_no_score_and_is_reported(scorer: Scorer, target: str) -> None:
    found = scored(scorer, "1", target)
    assert found.score is None
    assert "target" in (found.explanation or "")


def test_a_pattern_that_takes_too_long_is_cut_off_and_sooner_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchmix.scorers.texts._REGEX_S", 0.1)
    score = score_function(Regex(name="r", pattern=r"(a|aa)+$"), None)
    evil = "a" * 5000 + "b"
    began = time.process_time()
    first = score(evil, None, {})
    assert first.score is None
    assert "longer" in (first.explanation or "")
    for _ in range(9):
        score(evil, None, {})
    late = time.process_time()
    for _ in range(50):
        score(evil, None, {})
    assert time.process_time() - late < 3
    assert late - began < 3
    assert score("aa", None, {}).score == 1


def test_a_pattern_with_an_error_is_refused() -> None:
    with pytest.raises(JobError, match="pattern has an error"):
        scored(Regex(pattern="("), "x")


OWN = """
import ctypes, os, signal, sys, time

def polite(response, target, row):
    return "please" in response, f"row {row['row']}"

def length(response, target, row):
    return len(response)

def broken(response, target, row):
    raise KeyError(response)

def nothing(response, target, row):
    return float("nan")

def word(response, target, row):
    return "much"

def leaves(response, target, row):
    raise SystemExit(3)

def hangs(response, target, row):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass

def once(response, target, row):
    return {"hang": hangs, "exit": ends, "fork": forks}.get(response, length)(response, target, row)

def ends(response, target, row):
    os._exit(3)

def in_c(response, target, row):
    ctypes.PyDLL(None).pause()  # holds the interpreter's lock

def kills(response, target, row):
    os.kill(os.getpid(), signal.SIGKILL)

def forks(response, target, row):
    if os.fork() == 0:
        time.sleep(600)
    return 1

def doubles(response, target, row):
    child = os.fork()
    if child and response == "a":
        os.waitpid(child, 0)
    return len(response)

def leaves_its_group(response, target, row):
    os.setsid()
    os.write(os.open(target, os.O_WRONLY), b"x")
    hangs(response, target, row)

def floods(response, target, row):
    print("\\x1b]0;title\\x07" + response * 100_000)
    sys.stdout.flush()
    return 1

def closes(response, target, row):
    os.closerange(3, 100)
    return 1

def eats(response, target, row):
    return len(bytearray(2**50))

def beside(response, target, row):
    import own_constants
    return own_constants.ONE

def seen(response, target, row):
    return len(row), repr([row[name] for name in sorted(row)])

number = 3
"""


def test_a_custom_function_is_called_and_its_exception_belongs_to_the_row(tmp_path: Path) -> None:
    (tmp_path / "own_scorers.py").write_text(OWN)
    assert scored(Custom(python="own_scorers:polite"), "please", None, tmp_path) == Score(1.0, None, None, "row 0")
    assert scored(Custom(python="own_scorers:length"), "four", "x", tmp_path) == Score(4.0, "x")
    broken = scored(Custom(python="own_scorers:broken"), "x", None, tmp_path)
    assert (broken.score, broken.explanation) == (None, "own_scorers:broken: KeyError: 'x'")
    assert scored(Custom(python="own_scorers:nothing"), "x", None, tmp_path).score is None
    for wrong in ("own_scorers", "own_scorers:number", "own_scorers:missing", "no_such_module:f"):
        with pytest.raises(JobError, match="own"):
            scored(Custom(python=wrong), "x", None, tmp_path)


@pytest.mark.parametrize("name", ["word", "leaves", "nothing", "broken"])
def test_an_invalid_return_value_is_no_score_and_is_explained(name: str, tmp_path: Path) -> None:
    (tmp_path / "own_scorers.py").write_text(OWN)
    found = scored(Custom(python=f"own_scorers:{name}"), "x", None, tmp_path)
    assert found.score is None
    assert f"own_scorers:{name}: " in (found.explanation or "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own_scorers.py").write_text(OWN)
    (tmp_path / "own_constants.py").write_text("ONE = 1")
    return tmp_path


def own(name: str, folder: Path, timeout_s: float = 10.0) -> CustomScorer:
    return CustomScorer(Custom(name="own", python=f"own_scorers:{name}", timeout_s=timeout_s), folder)


def test_a_function_that_hangs_is_killed_and_finally_no_longer_called(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    score = own("hangs", folder, 0.05)
    found = score.scores([("x", None, {})] * 1_000)
    assert "longer than 0.05 s" in (found[0].explanation or "")
    assert "not called any more" in (found[-1].explanation or "")
    assert {one.score for one in found} == {None}
    assert [record.message for record in caplog.records] == [
        "own_scorers:hangs: failed 10 times, and is not called any more"
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ends", "ended with exit code 3"),
        ("in_c", "took longer than 0.3 s"),
        ("kills", "was killed by SIGKILL"),
        ("closes", "ended"),
        ("eats", "MemoryError"),
    ],
)
def test_a_function_that_breaks_its_process_loses_only_that_answer(name: str, words: str, folder: Path) -> None:
    found = own(name, folder, 0.3)("x", None, {})
    assert found.score is None
    assert words in (found.explanation or "")


def test_the_answers_around_one_that_ends_the_process_are_scored(folder: Path) -> None:
    found = own("once", folder, 1.0).scores([(text, None, {}) for text in ["a", "exit", "ab", "hang", "fork", "abc"]])
    assert [one.score for one in found] == [1, None, 2, None, 1, 3]


def test_a_fork_that_also_returns_does_not_score_another_answer(folder: Path) -> None:
    found = own("doubles", folder).scores([(text, None, {}) for text in ["a", "ab", "abc", "abcd"]])
    assert [one.score for one in found] == [1, 2, 3, 4]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_function_that_leaves_its_process_group_is_killed_too(folder: Path) -> None:
    fifo = folder / "held"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    score = own("leaves_its_group", folder, 0.5)
    assert score("x", str(fifo), {}).score is None
    assert os.read(held, 2) == b"x"
    assert select.select([held], [], [], 10)[0], "it is there, and holds what it opened"
    assert os.read(held, 2) == b""
    os.close(held)


def test_output_of_a_function_reaches_neither_terminal_nor_scores(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    score = own("floods", folder)
    assert [one.score for one in score.scores([("x", None, {})] * 20)] == [1.0] * 20
    del score
    assert capfd.readouterr() == ("", "")


def test_a_function_imports_modules_beside_the_job_also_when_called(folder: Path) -> None:
    assert own("beside", folder)("x", None, {}).score == 1


def test_a_function_receives_values_unchanged(folder: Path) -> None:
    row = {"f": 2**64 - 1, "g": -1, "h": 1.5, "i": None, "j": "\u2028é", "k": [{"x": [1, None]}], "m": True}
    assert own("seen", folder)("x", 1.5, row) == Score(len(row), "1.5", None, repr(list(row.values())))


KILLED = """
import sys, time
from pathlib import Path
from batchmix.evaluation.custom_scorer import CustomScorer
from batchmix.scorers.indirect import Custom
score = CustomScorer(Custom(name="own", python="own_scorers:" + sys.argv[2], timeout_s=600), Path(sys.argv[1]))
score("x", None, {}) if sys.argv[2] == "forks" else None
print(score._function._process.group, flush=True)
score("x", None, {})
time.sleep(600)
"""


@pytest.mark.parametrize("name", ["in_c", "forks"])
def test_no_function_process_survives_a_kill_of_batchmix(name: str, folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(folder), name], stdout=subprocess.PIPE, text=True) as us:
        assert us.stdout is not None
        group = int(first_line(us.stdout))
        os.killpg(group, 0)
        us.kill()
    wait_until(lambda: not _is_there(group))


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_module_that_hangs_when_it_is_imported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchmix.evaluation.custom_scorer._IMPORT_S", 0.3)
    (tmp_path / "hanging.py").write_text("import time\ntime.sleep(600)")
    with pytest.raises(JobError, match="own: can't import hanging:score: took longer than 0"):
        CustomScorer(Custom(name="own", python="hanging:score"), tmp_path)


def test_no_code_is_imported_from_a_run_folder() -> None:
    with pytest.raises(JobError, match="give the job file"):
        scored(Custom(python="os:getcwd"), "x")
