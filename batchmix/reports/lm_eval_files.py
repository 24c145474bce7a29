"""Writes a run as lm-evaluation-harness does: `results_TIME.json` and `samples_TASK_TIME.jsonl` for each model."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchmix.errors import UsageError
from batchmix.formats.lenient_json import nonempty_json
from batchmix.reports.exchange import ExchangedResult, ExchangedRun
from batchmix.store.export_file import exported

_FILTER = "none"
"""The name of the filter that the answers went through before they were scored."""


def write_lm_eval_files(run: ExchangedRun, folder: Path, mode: int | None) -> tuple[int, list[Path]]:
    """Write the two files of each model into a folder named after it; return how many results there are, and the paths.

    The samples of a row are one line. Lines are written as the results are read. The files appear only when all are
    complete.
    """
    task, time = _plain(run.run.name), run.started_at.replace(tzinfo=None).isoformat().replace(":", "-")
    count = 0
    with contextlib.ExitStack() as stack:
        files, paths = {}, []
        for name in run.run.models:
            inside = folder / _plain(name)
            pair = [inside / f"results_{time}.json", inside / f"samples_{task}_{time}.jsonl"]
            paths += pair
            try:
                inside.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"{inside}: can't be made: {error.strerror}; name a folder") from error
            opened = [stack.enter_context(exported(path, mode)).open("w", encoding="utf-8") for path in pair]
            files[name] = [stack.enter_context(file) for file in opened]
            files[name][0].write(json.dumps(_results(run, name, task), ensure_ascii=False, indent=2) + "\n")
        for (_, name), group in itertools.groupby(run.results(), _row_of):
            results = list(group)
            count += len(results)
            files[name][1].write(f"{nonempty_json(_line(run, results), readable=True)}\n")
    return count, paths


def _plain(name: str) -> str:
    """Return a name as the harness writes it into a path."""
    return re.sub(r"[^\w.-]", "__" if "/" in name else "_", name).strip(".") or "_"


def _row_of(result: ExchangedResult) -> tuple[int, str]:
    return result.values["row"], result.values["model"]


def _results(run: ExchangedRun, name: str, task: str) -> dict[str, Any]:
    model, entry = run.metrics_of(name), run.model(name)
    figures: dict[str, Any] = {"alias": task}
    for score in run.scores_of(name):
        figures[f"{score.scorer},{_FILTER}"] = score.score.mean
        figures[f"{score.scorer}_stderr,{_FILTER}"] = "N/A" if score.score.stderr is None else score.score.stderr
    scorers = [scorer.title for scorer in run.settings.scorers]
    return {
        "results": {task: figures},
        "group_subtasks": {task: []},
        "configs": {
            task: {
                "task": task, "dataset_path": run.job.input.path, "output_type": "generate_until",
                "repeats": run.job.samples, "num_fewshot": 0, "metric_list": [{"metric": name} for name in scorers],
            }
        },
        "versions": {task: "1.0"},
        "n-shot": {task: 0},
        "higher_is_better": {task: dict.fromkeys(scorers, True)},
        "n-samples": {task: {"original": run.run.rows, "effective": _rows_done(run, model)}},
        "config": {
            "model": "openai-chat-completions",
            "model_args": {"model": entry.id, "base_url": run.job.provider.base_url},
            "gen_kwargs": entry.params, "limit": run.run.scan.get("limit"), "batch_size": 1,
        },
        "git_hash": None, "date": run.started_at.timestamp(),
        "model_source": "openai-chat-completions", "model_name": entry.id, "model_name_sanitized": _plain(entry.id),
        "start_time": run.started_at.timestamp(), "task_hashes": {},
    }  # fmt: skip


def _rows_done(run: ExchangedRun, model: Any) -> int:
    return model.results // max(1, run.job.samples) if model else 0


def _line(run: ExchangedRun, results: list[ExchangedResult]) -> dict[str, Any]:
    """Return the line of a row: what was asked, all answers, and the mean of their scores by each scorer."""
    first = results[0]
    prompt = [{"role": turn.role, "content": turn.text} for turn in first.prompt]
    answers = [result.values["response"] or result.values["refusal"] or "" for result in results]
    asked, doc = json.dumps(prompt, ensure_ascii=False), first.carried | {"custom_id": first.values["custom_id"]}
    params = run.model(first.values["model"]).params
    metrics = dict(_means(results))
    return {
        "doc_id": first.values["row"], "doc": doc, "target": first.target,
        "arguments": {"gen_args_0": {"arg_0": asked, "arg_1": params}},
        "resps": [answers], "filtered_resps": answers, "filter": _FILTER, "metrics": sorted(metrics),
        "doc_hash": _hash(nonempty_json(doc) or ""), "prompt_hash": _hash(asked), "target_hash": _hash(first.target),
    } | metrics  # fmt: skip


def _means(results: list[ExchangedResult]) -> Iterator[tuple[str, float | None]]:
    for number, score in enumerate(results[0].scores):
        values = [one for result in results if (one := result.scores[number].score) is not None]
        yield score.scorer, statistics.fmean(values) if values else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
