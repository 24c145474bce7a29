"""The parts and journals of a run folder, compared with their names and with the ledger.

Reads footers and checksums, and no rows, so that a resume begins at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from batchmix.errors import PartDamaged
from batchmix.store.events import JournalHeader
from batchmix.store.journal_reader import Damage, Line, open_journal, read_lines, read_own_lines
from batchmix.store.ledger import LastState, ShardLeftOpen, ShardSealed
from batchmix.store.parts import list_parts, part_path, read_part, read_through
from batchmix.store.run_folder import Layout
from batchmix.store.schema import PartFooter, Seal


class FileOrigin(msgspec.Struct, frozen=True):
    """The run that a part or a journal belongs to, by its footer or header."""

    path: Path
    job: str
    rehearsal: bool | None
    """None: unknown."""
    shard_rows: int
    """0: unknown."""


class Inventory:
    """The parts and journals of a run folder.

    With `whole` each part is read completely. Otherwise only those are that an earlier start found damaged, or that are
    not the ones that were sealed last.
    """

    def __init__(self, layout: Layout, *, whole: bool = False) -> None:
        self.layout = layout
        self.last_states = layout.ledger.read()
        """What the ledger says of each shard."""
        self.damaged_ledger_lines = layout.ledger.damaged_lines()
        self.origins: list[FileOrigin] = []
        self.parts: dict[int, PartFooter] = {}
        """The footers of the parts that are undamaged, by shard."""
        self.damaged_parts: dict[int, str] = {}
        """Messages about damage in the others."""
        self.journals = layout.journals()
        self.damage: dict[int, list[Damage]] = {}
        """Where the journals of a shard are damaged."""
        self.classifier_versions: dict[int, set[int]] = {}
        """The versions of the classifier that wrote the journals of a shard, see `JournalHeader`."""
        self._seals: dict[int, Seal] = {}
        self._whole_bytes: dict[int, int] = {}
        for index, path in list_parts(layout.data).items():
            self._add_part(index, path, whole=whole)
        for index, lanes in self.journals.items():
            for lane, path in lanes.items():
                with contextlib.suppress(FileNotFoundError):  # sealed meanwhile, where the folder is not locked
                    self._add_journal(index, lane, path)

    def last_state(self, index: int) -> LastState:
        """Return what the ledger says of a shard."""
        return self.last_states.get(index) or LastState()

    def _add_part(self, index: int, path: Path, *, whole: bool) -> None:
        damage: list[str] = []
        try:
            footer, seal = read_part(path)
            shard_rows = footer.shard_rows or _shard_rows(footer)
            self.origins.append(FileOrigin(path, footer.job, footer.rehearsal, shard_rows))
            if footer.shard != index:
                damage.append(f"{path}: holds the rows of shard {footer.shard}")
            last = self.last_state(index)
            changed = last.sealed is not None and last.sealed.seal != seal
            if whole or last.part_damaged or changed:
                read_through(path, damage)
        except PartDamaged as error:
            damage.append(error.damage)
        if damage:
            self.damaged_parts[index] = "; ".join(damage)
        else:
            self.parts[index], self._seals[index] = footer, seal

    def _add_journal(self, index: int, lane: int, path: Path) -> None:
        damage = self.damage.setdefault(index, [])
        end = 0
        with open_journal(path) as file:
            for found in read_own_lines(file, index, lane):
                if isinstance(found, Damage):
                    damage.append(found)
                elif not isinstance(found.event, JournalHeader):
                    end = found.offset + found.length
            file.seek(0)
            first = next(read_lines(file), None)
        if not isinstance(first, Line):
            return
        header = first.event if isinstance(first.event, JournalHeader) else None
        self.classifier_versions.setdefault(index, set()).add(header.classifier_version if header else 0)
        if header:
            self.origins.append(FileOrigin(path, header.job, header.rehearsal, header.shard_rows))
        self._whole_bytes[index] = self._whole_bytes.get(index, 0) + end

    @property
    def shard_rows(self) -> int | None:
        """How many rows the shards of the run have; None: unknown."""
        return next((origin.shard_rows for origin in self.origins if origin.shard_rows), None)

    @property
    def holds_any(self) -> bool:
        """Whether there are parts or journals."""
        return bool(self.parts or self.damaged_parts or self.journals)

    def losses(self, index: int) -> list[str]:
        """Return messages about what a shard has lost since the ledger was written."""
        last, found = self.last_state(index), []
        part = part_path(self.layout.data, index)
        if index in self.damaged_parts:
            found.append(self.damaged_parts[index])
        elif last.sealed and index not in self.parts:
            found.append(f"{part}: is missing")
        elif last.sealed and self._seals[index].proof != last.sealed.seal.proof:
            found.append(f"{part}: is not the one that was finished last")
        if self.journals_are_short(index):
            found.append(f"{self.layout.journal_path(index, 0)}: is missing, or has lost its end")
        damage = self.damage.get(index, [])
        if len(damage) > last.damaged:
            found += [one.message(str(self.layout.journal_path(index, 0))) for one in damage]
        return found

    def journals_are_short(self, index: int) -> bool:
        """Return whether a shard's journals are missing, or parts of them."""
        last = self.last_state(index)
        gone = index not in self.journals or any(one.other for one in self.damage[index])
        return (gone and last.open and not last.counted) or self.whole_bytes(index) < last.whole_bytes

    def whole_bytes(self, index: int) -> int:
        """Return the bytes of a shard's journals, up to the last complete line of each."""
        return self._whole_bytes.get(index, 0)

    def unrecorded(self) -> Iterator[ShardSealed | ShardLeftOpen]:
        """Yield the lines of parts that the ledger does not have, or has another part in the place of."""
        for index, footer in self.parts.items():
            last, seal = self.last_state(index).sealed, self._seals[index]
            if last is None or last.seal.proof != seal.proof:
                yield ShardSealed.of(footer, seal)
                yield from [ShardLeftOpen(index)] * (index in self.journals)
            elif last.seal != seal and not self.last_state(index).open:  # it was read through, and is undamaged
                yield ShardSealed.of(footer, seal)


def _shard_rows(footer: PartFooter) -> int:
    return footer.first // footer.shard if footer.shard else 0
