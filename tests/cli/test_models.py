"""`batchmix models` shows what the gateway offers."""

from __future__ import annotations

import json
from pathlib import Path

from tests.calling import batchmix
from tests.gateway import model, serving


def test_models_are_listed_searched_and_given_as_json(tmp_path: Path) -> None:
    with serving() as gateway:
        gateway.offer(model("gpt-4o-mini"), model("gpt-3", retire_stage="retired", successor_model="\x1b[1mnew"))
        address = ["--base-url", f"{gateway.url}/v1"]
        shown = batchmix("models", *address, XDG_CACHE_HOME=str(tmp_path))
        found = batchmix("models", "MINI", "--json", *address, XDG_CACHE_HOME=str(tmp_path))
    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout
    assert "gpt-4o-mini    128,000     16,384      0.15     0.075       0.6" in shown.stdout
    assert "retired  → ?[1mnew" in shown.stdout
    assert json.loads(found.stdout) == [
        {"id": "gpt-4o-mini", "context_length": 128000, "max_output": 16384, "input": 0.15, "output": 0.6,
         "cache_read": 0.075, "cache_write": None, "tiered": False, "retire_stage": None, "successor": None}
    ]  # fmt: skip


def test_a_gateway_without_a_catalogue_is_reported(tmp_path: Path) -> None:
    with serving() as gateway:
        gateway.status = 404
        done = batchmix("models", "--base-url", gateway.url, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 3
    assert "no catalogue" in done.stderr
