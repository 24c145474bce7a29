"""The job file's `[[steps]]`: a chain of jobs, each over the results of the one before."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from batchmix.errors import JobError
from batchmix.job.settings import merged
from batchmix.job.values import MEMORY, QUERY, CheckedJob

_OF_LAST = ("publish", "delta_table")
"""The settings of the output that concern the results of the last step only."""
_OF_INPUT = ("prompt", "system", "messages", "when")
"""The keys of a step that its job has under `input`."""
_OF_STEP = ("answer", "samples")
_OF_NONE = ("eval", "schedule")
_NAME = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)


def check_steps(raw: Mapping[str, Any]) -> None:
    """Raise `JobError` if a job has settings that go with its steps only, or with none, or steps with wrong names."""
    for key in _OF_STEP:
        if raw.get(key) is not None:
            raise JobError(f"{key}: belongs into one of the [[steps]]")
    for key in _OF_NONE:
        if raw.get(key) is not None:
            raise JobError(
                f"{key}: a job with [[steps]] can't have it; the folder of a step can be evaluated by itself"
            )
    for key in _OF_INPUT:
        if raw["input"].get(key) is not None:
            raise JobError(f"input.{key}: belongs into the first of the [[steps]]")
    names = [step["name"] for step in raw["steps"]]
    for name in names:
        if not _NAME.fullmatch(name):
            raise JobError(f"steps.name: {name!r} must be a word of letters, digits and _, since templates use it")
        if names.count(name) > 1:
            raise JobError(f"steps.name: {name!r} is there twice; give each step a name of its own")


def step_settings(raw: Mapping[str, Any], number: int, name: str, folder: str) -> dict[str, Any]:
    """Return the settings of a step, as of a job of its own. `name` and `folder` are those of the whole chain."""
    step = raw["steps"][number]
    own = {key: value for key, value in step.items() if key not in {"name", *_OF_INPUT}}
    source = raw["input"] if number == 0 else {"run": raw["steps"][number - 1]["name"]}
    source = {**source, **{key: step[key] for key in _OF_INPUT if key in step}}
    replaced = {"model", "models"} if {"model", "models"} & own.keys() else set()
    inherited = {key: value for key, value in raw.items() if key not in {"steps", "input", *replaced}}
    path = os.path.join(folder, step["name"]).replace("{", "{{").replace("}", "}}")  # noqa: PTH118
    output = {key: value for key, value in raw.get("output", {}).items() if key not in _OF_LAST} | {"path": path}
    return {**merged(inherited, own), "name": f"{name}-{step['name']}", "input": source, "output": output}


def chain_of(raw: Mapping[str, Any], read: Callable[[Mapping[str, Any]], CheckedJob]) -> CheckedJob:
    """Return the job of a whole chain. `read` returns the checked job of settings. Raises `JobError`."""
    check_steps(raw)
    first = step_settings(raw, 0, "", "")
    own = {key: raw[key] for key in ("name", "output") if key in raw}
    whole = read({key: value for key, value in first.items() if key not in {"name", "output"}} | own)
    if whole.input.path == "-" or whole.input.path.startswith((MEMORY, QUERY)):
        raise JobError("input.path: a job with [[steps]] reads files; write the rows to one first")
    steps = [
        msgspec.structs.replace(read(step_settings(raw, number, whole.name, whole.output.path)), night=whole.night)
        for number in range(len(raw["steps"]))
    ]
    delivered = {name: getattr(whole.output, name) for name in _OF_LAST}
    steps[-1] = msgspec.structs.replace(steps[-1], output=msgspec.structs.replace(steps[-1].output, **delivered))
    return msgspec.structs.replace(whole, steps=tuple(steps))


def single(job: CheckedJob) -> CheckedJob:
    """Return a job that has no steps. Raises `JobError` for a chain."""
    if job.steps:
        raise JobError("steps: only `batchmix run` and `batchmix plan` take a job with [[steps]]; each step is a run")
    return job
