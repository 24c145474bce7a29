"""A start can be limited to some of a job's models; the others keep their answers."""

from __future__ import annotations

import pytest

from batchmix.engine import reader
from batchmix.engine.dedupe import DedupingLog
from batchmix.errors import JobError, NoSpace, ProviderStopped
from tests.conftest import Bench


@pytest.fixture
def two(bench: Bench) -> Bench:
    del bench.settings["model"]
    bench.settings["models"] = [{"id": "one"}, {"id": "two"}]
    bench.write(35)
    return bench


def test_a_stopped_model_is_resumed_alone_and_its_shards_are_sealed(two: Bench) -> None:
    two.standin.behave("models=one")
    with pytest.raises(ProviderStopped, match="two"):
        two.run()
    two.standin.behave("")
    sent = two.standin.request_count()
    view = two.run(models=("two",))
    assert view.totals.ok == 70
    assert two.standin.request_count() == sent + 35
    assert [(row["row"], row["model"]) for row in two.rows()] == [
        (n, name) for n in range(35) for name in ("one", "two")
    ]
    assert not list((two.out / "journal").iterdir())


def test_rows_that_cannot_be_sent_keep_their_own_error_when_their_model_is_stopped(two: Bench) -> None:
    two.standin.behave("models=one")
    two.write(25)
    with two.source.open("a") as file:
        file.write('{"id": "null", "text": null, "n": 25}\n')
    with pytest.raises(ProviderStopped, match="two"):
        two.run()
    outcomes = {(row["row"], row["model"]): (row["status"], row["error_type"]) for row in two.rows()}
    assert {outcome for (row, _), outcome in outcomes.items() if row == 25} == {("rejected", "bad_row")}
    assert {outcome for (row, model), outcome in outcomes.items() if row < 25 and model == "two"} == {
        ("failed", "model_stopped")
    }


def test_a_start_of_one_model_leaves_the_other_models_rows_to_a_later_start(two: Bench) -> None:
    view = two.run(models=("one",))
    assert (view.totals.ok, view.unanswered) == (35, 35)
    assert not list((two.out / "data").iterdir())
    assert two.run().totals.ok == 70
    assert two.standin.request_count() == 70
    assert len(two.rows()) == 70


def test_a_model_that_the_job_does_not_have_is_refused(two: Bench) -> None:
    with pytest.raises(JobError, match="it has one, two"):
        two.run(models=("three",))
    assert not two.out.exists()


def test_an_error_in_one_lane_lets_requests_in_flight_in_the_others_finish(
    two: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.settings["reuse"] = {"dedupe": True}
    finish, done = DedupingLog.finish, []

    async def fails(self: DedupingLog) -> None:
        await finish(self)
        done.append(self)
        if len(done) == 1:
            raise NoSpace("no space left")

    monkeypatch.setattr(DedupingLog, "finish", fails)
    two.standin.behave("latency[two]=0.5")
    with pytest.raises(NoSpace):
        two.run()
    view = reader.look(two.out)
    assert view.totals.ok > 35
    assert (view.totals.maybe_billed, view.totals.failed) == (0, 0)
