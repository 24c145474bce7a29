"""Missing answers: finds answers that have vanished from the run folder, before they are silently requested again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from batchmix.engine.shard_comparison import ShardComparison
from batchmix.errors import RunError
from batchmix.records import CLASSIFIER_VERSION
from batchmix.store.ledger import ShardLeftOpen
from batchmix.store.parts import part_path

_SHOWN = 5
"""Maximum number of reasons that the error message lists. Others are only counted."""


class MissingAnswers(msgspec.Struct, frozen=True):
    """The answers that a shard lacks, compared with the last line of the ledger about the shard."""

    answers: int
    """Number of answers that are certainly missing."""
    more: int
    """Number of further answers that may be missing."""
    reasons: list[str]
    left: ShardLeftOpen | None
    """The line to append to the ledger once the user accepts the loss. None if no line is needed."""
    reclassified: bool = False
    """Whether no data is lost, but this version of batchmix accepts fewer responses as answers."""


def check_missing(comparison: ShardComparison, *, update: bool) -> list[ShardLeftOpen]:
    """Return new lines for the ledger, one for each shard that differs from its last line in the ledger.

    Raises `RunError` if answers are missing, unless `update` is set.
    """
    inventory, count = comparison.inventory, comparison.count
    reasons = {index: losses for index in range(count) if (losses := inventory.losses(index))}
    missing = [_missing(comparison, index, losses) for index, losses in reasons.items()]
    others = {index for index, versions in inventory.classifier_versions.items() if versions != {CLASSIFIER_VERSION}}
    missing += [_reclassified(comparison, index) for index in sorted(others - reasons.keys()) if index < count]
    if not inventory.last_states or (inventory.damaged_ledger_lines and not missing):
        missing = _by_summary(comparison, missing)
    if not update:
        _refuse(missing, inventory.layout.root)
    return [shard.left for shard in missing if shard.left]


def _missing(comparison: ShardComparison, index: int, reasons: list[str]) -> MissingAnswers:
    """Return the missing answers of a shard that differs from its last line in the ledger."""
    inventory = comparison.inventory
    recorded = inventory.last_state(index)
    shard, changed, dropped = comparison.compare(index)
    present = fitting = shard.answers
    if recorded.sealed and not recorded.open and recorded.sealed.digest == comparison.digests.shard(index):
        fitting -= changed + dropped  # all answers of the part belonged to the job's requests
    missing = max(0, recorded.answers - fitting)
    max_more, more = comparison.results(index) - present - missing, 0
    if recorded.exact:
        pass
    elif inventory.journals_are_short(index) or (index in inventory.damaged_parts and not recorded.sealed):
        more = max_more
    else:
        more = min(max_more, sum(damage.answer for damage in shard.damage[recorded.damaged :]))
    is_damaged = index in inventory.damaged_parts
    left_open = ShardLeftOpen(index, present, inventory.whole_bytes(index), len(shard.damage), part_damaged=is_damaged)
    return MissingAnswers(missing, more, reasons, left_open)


def _reclassified(comparison: ShardComparison, index: int) -> MissingAnswers:
    """Return the missing answers of a shard whose journals were written by a version that accepted more answers."""
    inventory = comparison.inventory
    recorded, shard = inventory.last_state(index), comparison.shard(index)
    more = 0 if recorded.exact else shard.possible_answers
    shard.close()
    journal = inventory.layout.journal_path(index, min(inventory.journals[index]))
    reasons = [f"{journal}: another version of batchmix accepted more answers than this one does"]
    left_open = ShardLeftOpen(index, shard.answers, inventory.whole_bytes(index), len(shard.damage))
    return MissingAnswers(max(0, recorded.answers - shard.answers), more, reasons, left_open, reclassified=True)


def _by_summary(comparison: ShardComparison, missing: list[MissingAnswers]) -> list[MissingAnswers]:
    """Return the missing answers according to the last summary, for a ledger that is missing or damaged."""
    inventory = comparison.inventory
    layout, footers = inventory.layout, inventory.parts
    recorded = layout.answers_in_summary()
    if recorded <= sum(footer.totals.ok for footer in footers.values()):
        return [msgspec.structs.replace(shard, more=0) for shard in missing]
    read = inventory.journals.keys() | inventory.damaged_parts.keys()
    present = sum(footer.totals.ok for index, footer in footers.items() if index not in read)
    present += sum(comparison.shard(index).answers for index in read)
    reasons = [f"{layout.summary_json} counts {recorded} answers, and {present} are there"]
    reasons += [reason for shard in missing for reason in shard.reasons]
    absent = set(range(comparison.count)) - footers.keys() - read
    reasons += [f"{part_path(layout.data, index)}: is missing" for index in sorted(absent)]
    whole_run = MissingAnswers(max(0, recorded - present), 0, reasons, None)
    return [whole_run, *(msgspec.structs.replace(shard, answers=0, more=0) for shard in missing)]


def _refuse(missing: list[MissingAnswers], root: Path) -> None:
    """Raise `RunError` if answers are missing or may be missing."""
    low = sum(shard.answers for shard in missing)
    high = low + sum(shard.more for shard in missing)
    if not high:
        return
    incomplete = [shard for shard in missing if shard.answers or shard.more]
    reasons = [reason for shard in incomplete for reason in shard.reasons]
    count = f"{low}" if low == high else f"{low} to {high}" if low else f"up to {high}"
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    what = "answer that was there is" if high == 1 else "answers that were there are"
    is_reclassified = all(shard.reclassified for shard in incomplete)
    back = "Resume with the version that wrote them" if is_reclassified else "Put the files back"
    raise RunError(
        f"{root}: {count} {what} missing: {'; '.join(reasons[:_SHOWN])}{more}. {back};"
        " or add --update to request these answers again, or choose another folder with --out"
    )
