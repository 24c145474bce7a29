"""Lists the parts and journals of a run folder, and compares them with their names and the ledger.

Usually only the footers of parts are read, not their rows, so that a resume begins at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from batchmix.errors import PartDamaged
from batchmix.store.events import JournalHeader
from batchmix.store.journal_reader import Damage, Line, open_journal, read_events, read_own_lines
from batchmix.store.ledger import LastState, ShardLeftOpen, ShardSealed
from batchmix.store.parts import list_parts, part_path, read_part, read_through
from batchmix.store.run_folder import Layout
from batchmix.store.schema import PartFooter, Seal


class FileOrigin(msgspec.Struct, frozen=True):
    """The run that a part or a journal belongs to, according to the footer or header."""

    path: Path
    job: str
    rehearsal: bool | None
    """None if unknown."""
    shard_rows: int
    """0 if unknown."""


class Inventory:
    """The parts and journals of a run folder.

    If `whole`, each part is read completely. Otherwise a part is read completely only if an earlier start found it
    damaged, or if it is not the part that was sealed last.
    """

    def __init__(self, layout: Layout, *, whole: bool) -> None:
        self.layout = layout
        self.last_states = layout.ledger.read()
        """The last state of each shard in the ledger."""
        self.damaged_ledger_lines = layout.ledger.damaged_lines()
        self.origins: list[FileOrigin] = []
        self.parts: dict[int, PartFooter] = {}
        """Footers of the undamaged parts, by shard."""
        self.damaged_parts: dict[int, str] = {}
        """Messages about the damage in damaged parts, by shard."""
        self.journals = layout.journals()
        self.damage: dict[int, list[Damage]] = {}
        """Damaged places in the journals of each shard."""
        self.classifier_versions: dict[int, set[int]] = {}
        """The classifier versions that wrote the journals of each shard (see `JournalHeader`)."""
        self._seals: dict[int, Seal] = {}
        self._whole_bytes: dict[int, int] = {}
        for index, path in list_parts(layout.data).items():
            self._add_part(index, path, whole=whole)
        for index, lanes in self.journals.items():
            for lane, path in lanes.items():
                with contextlib.suppress(FileNotFoundError):  # it may be sealed meanwhile if the folder is not locked
                    self._add_journal(index, lane, path)

    def last_state(self, index: int) -> LastState:
        """Return the last state of a shard in the ledger."""
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
            for entry in read_own_lines(file, index, lane):
                if isinstance(entry, Damage):
                    damage.append(entry)
                elif not isinstance(entry.event, JournalHeader):
                    end = entry.offset + entry.length
            file.seek(0)
            first = next(read_events(file), None)
        if not isinstance(first, Line):
            return
        header = first.event if isinstance(first.event, JournalHeader) else None
        self.classifier_versions.setdefault(index, set()).add(header.classifier_version if header else 0)
        if header:
            self.origins.append(FileOrigin(path, header.job, header.rehearsal, header.shard_rows))
        self._whole_bytes[index] = self._whole_bytes.get(index, 0) + end

    @property
    def shard_rows(self) -> int | None:
        """The number of rows per shard in this run. None if unknown."""
        return next((origin.shard_rows for origin in self.origins if origin.shard_rows), None)

    @property
    def holds_any(self) -> bool:
        """Whether the folder has parts or journals."""
        return bool(self.parts or self.damaged_parts or self.journals)

    def losses(self, index: int) -> list[str]:
        """Return messages about files of a shard that are damaged, missing, or other than the ledger says."""
        last, messages = self.last_state(index), []
        part = part_path(self.layout.data, index)
        if index in self.damaged_parts:
            messages.append(self.damaged_parts[index])
        elif last.sealed and index not in self.parts:
            messages.append(f"{part}: is missing")
        elif last.sealed and self._seals[index].proof != last.sealed.seal.proof:
            messages.append(f"{part}: is not the one that was finished last")
        if self.journals_are_short(index):
            messages.append(f"{self.layout.journal_path(index, 0)}: is missing, or has lost its end")
        damage = self.damage.get(index, [])
        if len(damage) > last.damaged:
            messages += [one.message(str(self.layout.journal_path(index, 0))) for one in damage]
        return messages

    def journals_are_short(self, index: int) -> bool:
        """Return whether journals of a shard are missing, or shorter than the ledger says."""
        last = self.last_state(index)
        gone = index not in self.journals or any(one.other for one in self.damage[index])
        return (gone and last.open and not last.counted) or self.whole_bytes(index) < last.whole_bytes

    def whole_bytes(self, index: int) -> int:
        """Return the size of a shard's journals, each counted up to its last complete line."""
        return self._whole_bytes.get(index, 0)

    def unrecorded(self) -> Iterator[ShardSealed | ShardLeftOpen]:
        """Yield the ledger lines that are missing for the existing parts."""
        for index, footer in self.parts.items():
            last, seal = self.last_state(index).sealed, self._seals[index]
            if last is None or last.seal.proof != seal.proof:
                yield ShardSealed.of(footer, seal)
                yield from [ShardLeftOpen(index)] * (index in self.journals)
            elif (
                last.seal != seal and not self.last_state(index).open
            ):  # the part was read completely, and is undamaged
                yield ShardSealed.of(footer, seal)


def _shard_rows(footer: PartFooter) -> int:
    return footer.first // footer.shard if footer.shard else 0
