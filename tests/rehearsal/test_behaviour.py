from __future__ import annotations

import dataclasses

import pytest

from batchmix.rehearsal import Behaviour
from batchmix.rehearsal.reply_table import REPLY_KINDS


def test_parse():
    found = Behaviour.parse("latency=0.05-0.2&rpm=600&seed=1&models=a,b/c&rate_headers=false&key=sk%2Bx")
    assert found == Behaviour(
        latency=(0.05, 0.2), rpm=600.0, seed=1, models=("a", "b/c"), rate_headers=False, key="sk+x"
    )
    assert Behaviour.parse("") == Behaviour()
    assert Behaviour.parse("latency=1e-3").latency == (0.001, 0.001)
    assert Behaviour.parse("latency=1e-3-2e-3").latency == (0.001, 0.002)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("latencey=1", "'latencey'; did you mean latency?"),
        ("hangs=1", "did you mean hang?"),
        ("zzzzzz=1", "it has seed, latency"),
        ("seed=x", "can't take 'x' for seed"),
        ("rate_headers=maybe", "can't take 'maybe' for rate_headers"),
        ("latency=fast", "can't take 'fast' for latency"),
        ("latency=-1", "can't take '-1' for latency"),
        ("latency=0.2-0.1", "latency is a number of seconds or a range"),
        ("500=1.5", "500 is a share"),
        ("500=nan", "500 is a share"),
        ("500=0.6&502=0.6", "come to more than 1"),
        ("rpm=-1", "rpm must be 0 or more"),
        ("rpm=inf", "rpm must be 0 or more"),
        ("words=0", "words must be 1 or more"),
        ("rpm", "can't take '' for rpm"),
    ],
)
def test_mistakes(text, words):
    with pytest.raises(ValueError, match="rehearsal") as error:
        Behaviour.parse(text)
    assert words in str(error.value)


def test_no_kind_has_an_options_name_but_the_one_that_the_option_draws():
    assert set(REPLY_KINDS) & {field.name for field in dataclasses.fields(Behaviour)} == {"reject"}
