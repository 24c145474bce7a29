"""What keeps a job from a run folder: answers of another job, and answers that are no longer there."""

from __future__ import annotations

from pathlib import Path

import msgspec

from batchmix.errors import RunError
from batchmix.job import Job
from batchmix.store.inventory import FileOrigin, Inventory
from batchmix.store.ledger import ShardLeftOpen
from batchmix.store.run_folder import RunFile

_SHOWN = 5
"""So many files are named in a message."""


def check_same_run(job: Job, known: RunFile | None, held: Inventory) -> None:
    """Raise `RunError` where a folder, or a part or journal in it, can't be this job's at all."""
    root = held.layout.root
    said = [FileOrigin(root, known.name, known.rehearsal, known.shard_rows)] if known else []
    for origin in [*said, *held.origins]:
        if origin.job != job.name:
            raise RunError(
                f"{origin.path}: is of the run of another job, {origin.job!r}; this one is {job.name!r}; choose another"
                " --out"
            )
        if origin.rehearsal is None and known is None and job.provider.rehearsal:
            raise RunError(
                f"{origin.path}: does not say whether these answers were rehearsed, and rehearsed ones never mix with"
                " real ones; put run.json back, or choose another folder with --out"
            )
        if origin.rehearsal not in {None, job.provider.rehearsal}:
            who = "by rehearsal" if origin.rehearsal else "by a real provider"
            raise RunError(
                f"{origin.path}: was filled {who}, and rehearsed answers never mix with real ones; choose another"
                " folder with --out"
            )


class MissingAnswers(msgspec.Struct, frozen=True):
    """What is missing of what was last known."""

    answers: int
    more: int
    """So many more may be."""
    words: list[str]
    left: ShardLeftOpen | None
    """What the shard is left with, where somebody agrees."""
    otherwise: bool = False
    """They are there, but another version has judged them so."""


def refuse_missing(found: list[MissingAnswers], root: Path) -> None:
    """Raise `RunError` where answers are missing."""
    least = sum(one.answers for one in found)
    most = least + sum(one.more for one in found)
    if not most:
        return
    lost = [one for one in found if one.answers or one.more]
    words = [word for one in lost for word in one.words]
    count = f"{least}" if least == most else f"{least} to {most}" if least else f"up to {most}"
    more = f"; and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    said = "answer that was there is" if most == 1 else "answers that were there are"
    back = "Go on with the version that wrote them" if all(one.otherwise for one in lost) else "Put the files back"
    raise RunError(
        f"{root}: {count} {said} missing: {'; '.join(words[:_SHOWN])}{more}. {back};"
        " or add --update to ask for these answers again, or choose another folder with --out"
    )
