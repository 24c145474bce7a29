"""`Job`: the settings of a run as a value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Unpack

import msgspec

from batchmix.api.messages import speaking_python
from batchmix.api.settings import JobKeywords, StartSettings, answer_class, checked_job, with_own_code
from batchmix.errors import JobError
from batchmix.formats.display import clean
from batchmix.job import CheckedJob, job_settings, parse_toml, read_job, single, to_toml

_MAX_SHOWN_CHARS = 1_000


class Job:
    """The settings of a run, checked and immutable. Two jobs are equal if they would run the same.

    `source` is a job file (`.toml`), whose settings the other arguments override, or the input: a file, a folder, a
    glob, or `-` for standard input. `prompt` is the template of the user message, `model` the model's id, and `out` the
    run folder (default: `runs/` and the job's name). All others are listed in `JobKeywords`. Relative paths start from
    the working directory, and those in a job file as in jobs/job-file.md.

    Raises `JobError` for a wrong setting; the message names it, and the nearest right one. The input itself is not
    read.

    >>> job = Job("reviews.jsonl", "Classify: {{ text }}", model="gpt-4o-mini", params={"temperature": 0})
    >>> job.name, job.models
    ('reviews', ('gpt-4o-mini',))
    >>> Job.from_toml(job.to_toml()) == job
    True
    """

    __slots__ = ("_answer_class", "_checked")

    def __init__(
        self,
        source: str | os.PathLike[str] | None = None,
        prompt: str | None = None,
        *,
        model: str | None = None,
        out: str | os.PathLike[str] | None = None,
        **settings: Unpack[JobKeywords],
    ) -> None:
        for name in settings.keys() & StartSettings.__annotations__.keys():
            raise JobError(f"{name}: is no part of a job; give it to the start: bm.run(job, {name}=…)")
        if source is not None and not isinstance(source, str | os.PathLike):
            raise JobError(
                f"source: expected a path, got {type(source).__name__}; a Job has no rows: give them to bm.run(…)"
            )
        with speaking_python():
            self._checked = checked_job(source, prompt, model, out, settings)
        self._answer_class = answer_class(settings)

    @classmethod
    def of(cls, checked: CheckedJob) -> Job:
        """Return a checked job as a `Job`."""
        job = cls.__new__(cls)
        job._checked = checked
        job._answer_class = None
        return job

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        """Leave out the class of the answers, which another process may lack."""
        return None, {"_checked": self._checked, "_answer_class": None}

    @classmethod
    def from_toml(cls, text: str) -> Job:
        """Return the job that the text of a job file describes. Relative paths start from the working directory.

        Raises `JobError`. For a file, call `Job("job.toml")`.

        >>> Job.from_toml('model = "gpt-4o-mini"\\ninput.path = "reviews.jsonl"').name
        'reviews'
        """
        try:
            settings = parse_toml(text)
        except JobError as error:
            raise JobError(f"job{error}") from error.__cause__
        with speaking_python():
            return cls.of(with_own_code(single(read_job(None, settings, option=""))))

    def to_toml(self) -> str:
        """Return the text of a job file that describes this job, without defaults. All its paths are absolute.

        It has what `batchmix run` needs, except keys and other values that the environment has. Raises `JobError` for a
        parameter that is None, which TOML can't express.
        """
        with speaking_python():
            return to_toml(self._checked)

    @property
    def checked(self) -> CheckedJob:
        """All settings, with their defaults filled in."""
        return self._checked

    @property
    def answer_class(self) -> type | None:
        """The class that was given as the schema of the answers. None if there was none, and in another process."""
        return self._answer_class

    @property
    def name(self) -> str:
        """The name of the job, and of its runs."""
        return self._checked.name

    @property
    def folder(self) -> Path:
        """The run folder, as an absolute path. It need not exist yet."""
        return Path(self._checked.output.path)

    @property
    def input_path(self) -> str:
        """The absolute path of the input, which may be a glob. `-` is standard input."""
        return self._checked.input.path

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models, as in the column `model` of the results. Empty if the rows name their models."""
        return tuple(model.name for model in self._checked.models)

    def __eq__(self, other: object) -> bool:
        return _as_json(self) == _as_json(other) if isinstance(other, Job) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.name, self.folder, self.input_path, self.models))

    def __repr__(self) -> str:
        models = ", ".join(self.models) or "of the rows"
        return clean(f"<Job {self.name}: {self.input_path} → {self.folder}; models: {models}>", _MAX_SHOWN_CHARS)


def _as_json(job: Job) -> bytes:
    """Return the settings in a form in which 1, 1.0 and true differ, as they do in a request."""
    return msgspec.json.encode(job_settings(job.checked), order="sorted")
