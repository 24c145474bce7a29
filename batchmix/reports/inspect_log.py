"""Writes a run as logs of Inspect AI (https://inspect.aisi.org.uk), one JSON file for each model."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from batchmix import __version__
from batchmix.comparison.sent_prompts import Turn
from batchmix.engine import reader
from batchmix.evaluation.result_arrays import Array, hashes
from batchmix.formats.arrow_values import row_values
from batchmix.formats.lenient_json import nonempty_json, read_json
from batchmix.records import Status
from batchmix.reports.exchange import ExchangedResult, ExchangedRun, ExchangedScore
from batchmix.scorers.settings import listed_targets
from batchmix.store.export_file import exported

_IDS = "the ids of the samples"
"""Stands in a header for the ids, which are written as they are read."""
_VERSION = 2
"""The version of the log's format."""
_FRACTIONS = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
_WHOLE = ("max_tokens", "seed", "top_k")
"""The parameters that a log knows, numbers and whole ones. All others are in `model_args`."""
_STOP_REASONS = {
    "stop": "stop", "length": "max_tokens", "tool_calls": "tool_calls", "content_filter": "content_filter",
}  # fmt: skip
_ROLES = {"system": "system", "developer": "system", "instructions": "system", "assistant": "assistant", "tool": "tool"}


def write_inspect_logs(run: ExchangedRun, path: Path, mode: int | None) -> tuple[int, list[Path]]:
    """Write one log for each model; return how many samples they have, and their paths.

    The one log of a single model is `path`. Several have the model's name added to the file's. Samples are written as
    they are read. The files appear only when all are complete.
    """
    names = run.run.models
    paths = [path] if len(names) == 1 else [_of_model(path, name) for name in names]
    ids = _Ids(run.folder)
    count = 0
    with contextlib.ExitStack() as stack:
        logs = {}
        for name, target in zip(names, paths, strict=True):
            file = stack.enter_context(stack.enter_context(exported(target, mode)).open("w", encoding="utf-8"))
            logs[name] = _Log(file, _header(run, name), ids.of_model(name))
        for result in run.results():
            logs[result.values["model"]].add(_sample(result, ids) | {"target": _target(run, result)})
            count += 1
        for log in logs.values():
            log.end()
    return count, paths


class _Log:
    """A log whose samples are written one by one, at its end."""

    def __init__(self, file: TextIO, header: Mapping[str, Any], ids: Iterator[str | int]) -> None:
        self._file = file
        self._mark = ""
        before, after = (nonempty_json(header, readable=True) or "").removesuffix("}").split(f'"{_IDS}"')
        file.write(f"{before}[")
        for number, name in enumerate(ids):
            file.write(f"{', ' if number else ''}{json.dumps(name, ensure_ascii=False)}")
        file.write(f']{after}, "samples": [')

    def add(self, sample: Mapping[str, Any]) -> None:
        self._file.write(f"{self._mark}\n{nonempty_json(sample, readable=True)}")
        self._mark = ","

    def end(self) -> None:
        self._file.write("\n]}\n")


class _Ids:
    """The ids of samples: the custom_ids of the rows, or the numbers of the rows if some have the same custom_id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        texts: list[Array] = []
        rows: list[Array] = []
        for batch in reader.results(folder, ["row", "custom_id"]):
            texts.append(hashes(batch["custom_id"]))
            rows.append(np.asarray(batch["row"]))
        self._are_unique = True
        if rows:
            first: Array = np.unique(np.concatenate(rows), return_index=True)[1]
            self._are_unique = len(np.unique(np.concatenate(texts)[first])) == len(first)

    def of(self, values: Mapping[str, Any]) -> str | int:
        """Return the id of a result's row."""
        row: int = values["row"]
        return values["custom_id"] or row if self._are_unique else row

    def of_model(self, model: str) -> Iterator[str | int]:
        """Yield the id of each row that has results of a model."""
        last = -1
        for batch in reader.results(self._folder, ["row", "custom_id", "model"]):
            for values in row_values(batch):
                if values["model"] == model and values["row"] != last:
                    last = values["row"]
                    yield self.of(values)


def _of_model(path: Path, model: str) -> Path:
    return path.with_name(f"{path.stem}-{re.sub(r'[^A-Za-z0-9._-]+', '_', model)}{path.suffix}")


def _header(run: ExchangedRun, name: str) -> dict[str, Any]:
    model = run.model(name)
    known = {key: value for key, value in model.params.items() if _is_config(key, value)}
    scorers = [scorer.title for scorer in run.settings.scorers]
    return {
        "version": _VERSION,
        "status": "success" if run.complete else "started",
        "eval": {
            "eval_id": run.digest("eval", name), "run_id": run.digest("run"), "task_id": run.digest("task", name),
            "created": run.started_at.isoformat(), "task": run.run.name, "task_version": 0,
            "dataset": {
                "name": Path(run.job.input.path).name, "location": run.job.input.path, "samples": run.run.rows,
                "sample_ids": _IDS,
            },
            "model": model.id, "model_generate_config": known, "model_base_url": run.job.provider.base_url,
            "model_args": {key: value for key, value in model.params.items() if key not in known},
            "config": {"epochs": run.job.samples, "limit": run.run.scan.get("limit")},
            "packages": {"batchmix": __version__},
            "scorers": [{"name": scorer} for scorer in scorers],
        },
        "plan": {"name": "batchmix", "steps": []},
        "results": _results(run, name),
        "stats": {
            "started_at": run.started_at.isoformat(), "completed_at": run.ended_at, "model_usage": _usage_of(run, name),
        },
    }  # fmt: skip


def _is_config(key: str, value: Any) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return (key in _WHOLE and is_whole) or (key in _FRACTIONS and (is_whole or isinstance(value, float)))


def _results(run: ExchangedRun, name: str) -> dict[str, Any] | None:
    model = run.metrics_of(name)
    if model is None:
        return None
    scores = []
    for score in run.scores_of(name):
        values = {"mean": score.score.mean, "stderr": score.score.stderr}
        scores.append(
            {
                "name": score.scorer, "scorer": score.scorer, "scored_samples": score.score.n,
                "unscored_samples": score.unscored,
                "metrics": {key: {"name": key, "value": value} for key, value in values.items() if value is not None},
            }
        )  # fmt: skip
    answered = round(model.answered * model.results)
    return {"total_samples": model.results, "completed_samples": answered, "scores": scores}


def _usage_of(run: ExchangedRun, name: str) -> dict[str, Any]:
    model = run.metrics_of(name)
    if model is None:
        return {}
    return {
        run.model(name).id: {
            "input_tokens": model.prompt_tokens, "output_tokens": model.completion_tokens,
            "total_tokens": model.prompt_tokens + model.completion_tokens,
            "reasoning_tokens": model.reasoning_tokens, "total_cost": model.cost_usd,
        }
    }  # fmt: skip


def _sample(result: ExchangedResult, ids: _Ids) -> dict[str, Any]:
    values = result.values
    prompt = [_message(turn) for turn in result.prompt]
    output = _output(values)
    unscored = {score.scorer: score.explanation for score in result.scores if score.score is None}
    metadata = result.carried | {"row": values["row"]} | ({"unscored": unscored} if unscored else {})
    sample = {
        "id": ids.of(values), "epoch": values["sample"] + 1, "input": prompt or "",
        "messages": [*prompt, *(choice["message"] for choice in output["choices"])], "output": output,
        "scores": {score.scorer: _score(score) for score in result.scores if score.score is not None},
        "metadata": json.loads(nonempty_json(metadata, readable=True) or "{}"),
        "model_usage": {output["model"]: output["usage"]} if output["usage"] else {},
        "started_at": values["sent_at"], "completed_at": values["finished_at"],
        "total_time": values["latency_s"],
    }  # fmt: skip
    if values["status"] != Status.OK:
        text = f"{values['status']} ({values['error_type']}): {values['error_message'] or ''}"
        sample["error"] = {"message": text, "traceback": text, "traceback_ansi": text}
    return sample


def _target(run: ExchangedRun, result: ExchangedResult) -> str | list[str]:
    """Return the right answer to a row, or several if any of them is right."""
    several = {scorer.title for scorer in run.settings.scorers if scorer.takes_any_of}
    text = result.target
    scorer = next((score.scorer for score in result.scores if score.target is not None), "")
    listed = listed_targets(text) if scorer in several and text.lstrip().startswith("[") else None
    return listed or text


def _message(turn: Turn) -> dict[str, Any]:
    return {"role": _ROLES.get(turn.role, "user"), "content": turn.text}


def _score(score: ExchangedScore) -> dict[str, Any]:
    return {"value": score.score, "answer": score.extracted, "explanation": score.explanation}


def _output(values: Mapping[str, Any]) -> dict[str, Any]:
    model = values["served_model"] or values["model"]
    choices = []
    if values["status"] == Status.OK:
        message = {"role": "assistant", "source": "generate", "model": model, "content": list(_content(values))}
        if calls := list(_tool_calls(values["tool_calls"])):
            message["tool_calls"] = calls
        reason = _STOP_REASONS.get(values["finish_reason"] or "", "unknown")
        choices = [{"message": message, "stop_reason": reason}]
    text = values["response"] or values["refusal"] or ""
    return {
        "model": model, "choices": choices, "completion": text, "usage": _usage(values), "time": values["latency_s"],
        "error": values["error_message"] if values["status"] != Status.OK else None,
        "response_id": values["request_id"],
    }  # fmt: skip


def _content(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if values["reasoning"]:
        yield {"type": "reasoning", "reasoning": values["reasoning"]}
    text = values["response"] or values["refusal"] or ""
    yield {"type": "text", "text": text} | ({"refusal": True} if values["refusal"] and not values["response"] else {})


def _tool_calls(text: str | None) -> Iterator[dict[str, Any]]:
    calls = read_json(text.encode("utf-8", "replace")) if text else None
    for number, call in enumerate(calls if isinstance(calls, list) else []):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            given = read_json(str(function.get("arguments") or "{}").encode("utf-8", "replace"))
            yield {
                "id": str(call.get("id") or number), "function": str(function.get("name") or ""), "type": "function",
                "arguments": given if isinstance(given, dict) else {"arguments": function.get("arguments")},
            }  # fmt: skip


def _usage(values: Mapping[str, Any]) -> dict[str, Any] | None:
    if values["prompt_tokens"] is None and values["completion_tokens"] is None:
        return None
    asked, said = values["prompt_tokens"] or 0, values["completion_tokens"] or 0
    return {
        "input_tokens": asked, "output_tokens": said, "total_tokens": values["total_tokens"] or asked + said,
        "input_tokens_cache_read": values["cached_tokens"], "reasoning_tokens": values["reasoning_tokens"],
        "total_cost": values["cost_usd"],
    }  # fmt: skip
