"""Scorers in runs of the command line: what an answer states, several right answers, and answers that were cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.calling import batchmix

JOB = """
name = "night"
model = "m"
[input]
path = "rows.jsonl"
prompt = "{{{{ said }}}}"
[params]
max_tokens = {max_tokens}
[provider]
base_url = "rehearsal:?echo=1"
api_key_env = ""
[output]
path = "run"
[eval]
target = "answer"
[[eval.guards]]
metric = "score"
{scorers}
"""


def scored(root: Path, scorer: dict[str, Any], rows: list[tuple[str, Any]], max_tokens: int = 500) -> list[Any]:
    """Run a job whose model answers with these texts, and return each answer's score and its explanation."""
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in scorer.items())
    job = JOB.format(max_tokens=max_tokens, scorers=f"[[eval.scorers]]\n{settings}")
    (root / "job.toml").write_text(job)
    (root / "rows.jsonl").write_text(
        "".join(json.dumps({"said": said, "answer": answer}) + "\n" for said, answer in rows)
    )
    done = batchmix("run", "job.toml", cwd=root)
    assert "Traceback" not in done.stderr
    found = pq.read_table(root / "run" / "evaluation" / "scores.parquet").to_pylist()
    return [(row["score"], row["explanation"]) for row in found]


def test_a_choice_is_what_the_answer_states_and_not_what_comes_after_it(tmp_path: Path) -> None:
    texts = ["**B**\n\nA is wrong. C is wrong.", "Not B.", "B or C", "<think>B?</think>The answer is A."]
    found = scored(tmp_path, {"kind": "choice"}, [(text, "B") for text in texts])
    assert [score for score, _ in found] == [1, 0, 0, 0]


def test_a_list_of_targets_has_several_right_answers_and_an_empty_target_has_no_score(tmp_path: Path) -> None:
    rows = [("It is NYC.", ["New York", "NYC"]), ("Boston", ["New York", "NYC"]), ("NYC", []), ("NYC", [""])]
    found = scored(tmp_path, {"kind": "includes"}, rows)
    assert [score for score, _ in found] == [1, 0, None, None]
    assert found[2][1] == found[3][1] == "the row's target is empty"


def test_an_answer_that_was_cut_off_has_a_score_only_if_it_had_stated_its_result(tmp_path: Path) -> None:
    texts = ["The answer is 42 since there are six rows of seven", "There are 42 rows and each has seven of them"]
    found = scored(tmp_path, {"kind": "number"}, [(text, "42") for text in texts], max_tokens=8)
    assert [score for score, _ in found] == [1, None]
    assert "cut off" in found[1][1]


def test_words_in_common_are_a_share(tmp_path: Path) -> None:
    found = scored(tmp_path, {"kind": "f1"}, [("the Eiffel Tower", "Eiffel tower in Paris")])
    assert found == [(2 / 3, None)]
