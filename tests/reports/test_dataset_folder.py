"""A run becomes a folder that Hugging Face's `datasets` loads, with a card that shows names as they are."""

from __future__ import annotations

import json
from typing import Any

import datasets
import pytest

import batchmix as bm
from batchmix.errors import UsageError
from tests.conftest import Bench


@pytest.fixture
def finished(bench: Bench) -> Bench:
    bench.settings["name"] = "a <b>: [x](y)"
    rows: list[Any] = [{"text": f"t{n}", "<script>|": "row's own"} for n in range(3)]
    bench.source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bench.run()
    return bench


def test_datasets_loads_the_folder_by_its_card(finished: Bench) -> None:
    target = finished.root / "dataset"
    assert bm.open(finished.out).export(target, "hf") == 3
    loaded = datasets.load_dataset(str(target), cache_dir=str(finished.root / "cache"))["train"]
    assert loaded["response"][:] == [row["response"] for row in finished.rows()]
    card = (target / "README.md").read_text()
    assert "# a &lt;b&gt;: \\[x\\]\\(y\\)" in card
    assert "<script>" not in card
    assert "row's own" not in card
    assert 'size_categories: ["n<1K"]' in card
    bm.open(finished.out).export(target, "hf", columns=["row"], where="{{ row < 2 }}")  # replaces its own
    again = datasets.load_dataset(str(target), cache_dir=str(finished.root / "cache2"))["train"]
    assert again.to_list() == [{"row": 0}, {"row": 1}]


def test_a_folder_with_other_files_is_refused(finished: Bench) -> None:
    target = finished.root / "mine"
    target.mkdir()
    (target / "README.md").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        bm.open(finished.out).export(target, "hf")
    with pytest.raises(UsageError, match="would replace a file of the run"):
        bm.open(finished.out).export(finished.out / "data", "hf")
    assert [path.name for path in target.iterdir()] == ["README.md"]
