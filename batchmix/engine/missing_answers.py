"""Missing answers: finds answers that the run folder once held, so that they are not silently requested again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from batchmix.engine.shard_comparison import ShardComparison
from batchmix.errors import RunError
from batchmix.records import CLASSIFIER_VERSION
from batchmix.store.ledger import ShardLeftOpen
from batchmix.store.parts import part_path

_SHOWN = 5
"""Maximum number of reasons in the error message; it only counts the others."""


class MissingAnswers(msgspec.Struct, frozen=True):
    """The answers that a shard lacks, compared with the last line of the ledger about it."""

    answers: int
    """Answers that are certainly missing."""
    more: int
    """How many more answers may be missing; the exact number is unknown."""
    reasons: list[str]
    left: ShardLeftOpen | None
    """The line to append to the ledger once the user accepts the loss; None if there is none to append."""
    otherwise: bool = False
    """Whether nothing is lost, but this version of batchmix accepts fewer of the responses as answers."""


def check_missing(comparison: ShardComparison, *, update: bool) -> list[ShardLeftOpen]:
    """Return new lines for the ledger, about the shards that differ from what it recorded.

    Raises `RunError` if answers are missing, unless `update` is set.
    """
    inventory, count = comparison.inventory, comparison.count
    reasons = {index: losses for index in range(count) if (losses := inventory.losses(index))}
    missing = [_missing(comparison, index, losses) for index, losses in reasons.items()]
    others = {index for index, versions in inventory.classifier_versions.items() if versions != {CLASSIFIER_VERSION}}
    missing += [_classified_otherwise(comparison, index) for index in sorted(others - reasons.keys()) if index < count]
    if not inventory.last_states or (inventory.damaged_ledger_lines and not missing):
        missing = _by_summary(comparison, missing)
    if not update:
        _refuse(missing, inventory.layout.root)
    return [one.left for one in missing if one.left]


def _missing(comparison: ShardComparison, index: int, reasons: list[str]) -> MissingAnswers:
    """Return the missing answers of a shard that differs from what the ledger recorded."""
    inventory = comparison.inventory
    recorded = inventory.last_state(index)
    shard, changed, dropped = comparison.compared(index)
    there = fitting = shard.answers
    if recorded.sealed and not recorded.open and recorded.sealed.digest == comparison.digests.shard(index):
        fitting -= changed + dropped  # all answers of the part belonged to the job's requests
    missing = max(0, recorded.answers - fitting)
    room, more = comparison.results(index) - there - missing, 0
    if recorded.exact:
        pass
    elif inventory.journals_are_short(index) or (index in inventory.damaged_parts and not recorded.sealed):
        more = room
    else:
        more = min(room, sum(one.answer for one in shard.damage[recorded.damaged :]))
    is_damaged = index in inventory.damaged_parts
    left_open = ShardLeftOpen(index, there, inventory.whole_bytes(index), len(shard.damage), part_damaged=is_damaged)
    return MissingAnswers(missing, more, reasons, left_open)


def _classified_otherwise(comparison: ShardComparison, index: int) -> MissingAnswers:
    """Return the missing answers of a shard whose journals were written by a version with other rules for answers."""
    inventory = comparison.inventory
    recorded, shard = inventory.last_state(index), comparison.shard(index)
    more = 0 if recorded.exact else shard.possible_answers
    shard.close()
    journal = inventory.layout.journal_path(index, min(inventory.journals[index]))
    reasons = [f"{journal}: another version of batchmix accepted more answers than this one does"]
    left_open = ShardLeftOpen(index, shard.answers, inventory.whole_bytes(index), len(shard.damage))
    return MissingAnswers(max(0, recorded.answers - shard.answers), more, reasons, left_open, otherwise=True)


def _by_summary(comparison: ShardComparison, missing: list[MissingAnswers]) -> list[MissingAnswers]:
    """Return the missing answers by the count in the last summary, for a ledger that can't be relied on."""
    inventory = comparison.inventory
    layout, footers = inventory.layout, inventory.parts
    recorded = layout.answers_in_summary()
    if recorded <= sum(footer.totals.ok for footer in footers.values()):
        return [msgspec.structs.replace(one, more=0) for one in missing]
    read = inventory.journals.keys() | inventory.damaged_parts.keys()
    there = sum(footer.totals.ok for index, footer in footers.items() if index not in read)
    there += sum(comparison.shard(index).answers for index in read)
    reasons = [f"{layout.summary_json} counts {recorded} answers, and {there} are there"]
    reasons += [reason for one in missing for reason in one.reasons]
    absent = set(range(comparison.count)) - footers.keys() - read
    reasons += [f"{part_path(layout.data, index)}: is missing" for index in sorted(absent)]
    lost = MissingAnswers(max(0, recorded - there), 0, reasons, None)
    return [lost, *(msgspec.structs.replace(one, answers=0, more=0) for one in missing)]


def _refuse(missing: list[MissingAnswers], root: Path) -> None:
    """Raise `RunError` if any answers are missing, or may be."""
    least = sum(one.answers for one in missing)
    most = least + sum(one.more for one in missing)
    if not most:
        return
    lost = [one for one in missing if one.answers or one.more]
    reasons = [reason for one in lost for reason in one.reasons]
    count = f"{least}" if least == most else f"{least} to {most}" if least else f"up to {most}"
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    what = "answer that was there is" if most == 1 else "answers that were there are"
    back = "Resume with the version that wrote them" if all(one.otherwise for one in lost) else "Put the files back"
    raise RunError(
        f"{root}: {count} {what} missing: {'; '.join(reasons[:_SHOWN])}{more}. {back};"
        " or add --update to request these answers again, or choose another folder with --out"
    )
