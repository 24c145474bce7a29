"""Which answers count as empty: those in which a reader finds nothing."""

from __future__ import annotations

import pyarrow as pa

from batchmix.evaluation.result_arrays import FIELDS
from tests.conftest import EvalBench

NOTHING = [
    None,
    "",
    " \n\u00a0\u3000",
    "\u200b\ufeff",
    "<think>so</think>\n",
    "<think>so",
    "so then</think>\n",
    "```json\n```",
    "~~~\n\n~~~\n",
]
SOMETHING = ["a", "```py\nx\n```", "<b>x</b>", "<think>a</think>b", "[1]", "a > b >"]


def test_answers_without_anything_to_read_are_empty() -> None:
    texts = [*NOTHING, *SOMETHING, None, ""]
    calls = [None] * (len(texts) - 2) + ["[]", None]
    columns = {
        "response": pa.array(texts, pa.string()),
        "tool_calls": pa.array(calls, pa.string()),
        "status": pa.array(["ok"] * (len(texts) - 1) + ["failed"]),
        "refusal": pa.nulls(len(texts), pa.string()),
        "finish_reason": pa.array(["stop"] * len(texts)),
    }
    found = FIELDS["empty"].make(pa.RecordBatch.from_pydict(columns)).tolist()
    assert found == [True] * len(NOTHING) + [False] * (len(SOMETHING) + 2)


def test_a_row_that_the_condition_skips_has_no_score(evaluated: EvalBench) -> None:
    """It is no wrong answer: nothing was asked."""
    evaluated.settings["input"]["when"] = "{{ n < 2 }}"
    evaluated.write_said([{"said": "yes", "answer": "yes", "n": n} for n in range(4)])
    evaluated.run()
    (scores,) = evaluated.evaluate().scores
    assert (scores.score.mean, scores.score.n) == (1.0, 2)
    assert [row["score"] for row in evaluated.scores()] == [1.0, 1.0, None, None]
    assert evaluated.scores()[2]["explanation"] == "input.when is false: {{ n < 2 }}"
