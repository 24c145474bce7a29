"""Gives a job whose run folder is in object storage a copy of it on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from batchmix.job import CheckedJob
from batchmix.remote.objects import is_remote


@contextlib.contextmanager
def local_output(job: CheckedJob, *, writes: bool = True, wait: bool = False) -> Iterator[CheckedJob]:
    """Yield the job with its run folder on this machine: the same job, or one whose folder is a copy.

    If the run `writes`, it is locked where it is, and what changes in the copy is written there. If another process
    works on it, the function raises `RunLocked`, or waits if `wait` is set.
    """
    if not is_remote(job.output.path):
        yield job
        return
    from batchmix.store.working_copy import read_copy, working_copy

    url = job.output.path
    with (
        working_copy(url, wait=wait, beside=job.eval is not None)
        if writes
        else read_copy(url, must_exist=False) as folder
    ):
        yield with_output(job, folder)


def with_output(job: CheckedJob, folder: Path | str) -> CheckedJob:
    """Return the job with another run folder, and its steps with folders in that."""
    moved = msgspec.structs.replace(job, output=msgspec.structs.replace(job.output, path=str(folder)))
    steps: list[CheckedJob] = []
    for step in job.steps:
        own = with_output(step, Path(folder, PurePosixPath(step.output.path).name))
        if steps:
            own = msgspec.structs.replace(own, input=msgspec.structs.replace(own.input, path=steps[-1].output.path))
        steps.append(own)
    return msgspec.structs.replace(moved, steps=tuple(steps))
