"""The files that scorers name: a table of labels, a JSON Schema. Their paths become absolute, schemas are read."""

from __future__ import annotations

from pathlib import Path

import msgspec

from batchmix.errors import JobError
from batchmix.job.addresses import absolute, checked_local
from batchmix.job.answer_table import given_schema, schema_as_text
from batchmix.job.eval_table import Eval
from batchmix.scorers.json_fields import Json
from batchmix.scorers.labels import Labels
from batchmix.scorers.settings import ScorerSettings


def with_scorer_files(settings: Eval, folder: Path) -> Eval:
    """Return `[eval]` in which no scorer depends on `folder`, where relative paths start. Raises `JobError`."""
    return msgspec.structs.replace(settings, scorers=tuple(_with_file(scorer, folder) for scorer in settings.scorers))


def _with_file(scorer: ScorerSettings, folder: Path) -> ScorerSettings:
    if isinstance(scorer, Labels):
        what = "eval.scorers.path"
        return msgspec.structs.replace(scorer, path=absolute(checked_local(scorer.path, what), folder, what))
    if isinstance(scorer, Json) and scorer.schema is not None:
        from batchmix.answers.schema import read_schema  # only here: it takes 20 ms

        try:
            schema = read_schema(given_schema(scorer.schema), folder)
        except JobError as error:
            raise error.reworded(lambda text: text.replace("answer.schema", "eval.scorers.schema", 1)) from error
        return msgspec.structs.replace(scorer, schema=schema_as_text(schema))
    return scorer
