"""What lies in a run folder, held against its own names and against what was last known of it.

Looks at footers and checksums, and at no row, so that a resume is at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from batchmix.errors import PartDamaged
from batchmix.store.events import Begun
from batchmix.store.journal import Damage, Line, open_journal, read_lines, read_own_lines
from batchmix.store.ledger import Known, Left, Sealed, sealed
from batchmix.store.parts import list_parts, part_path, read_part, read_through
from batchmix.store.run_folder import Layout
from batchmix.store.schema import PartFooter, Seal


class Origin(msgspec.Struct, frozen=True):
    """What a file says of the run that it belongs to."""

    path: Path
    job: str
    rehearsal: bool | None
    """None: it does not say."""
    shard_rows: int
    """0: it does not say."""


class Held:
    """The parts and journals of a run folder that somebody holds.

    With `whole` each part is read through, else only one that an earlier start has found torn, that is not the one
    that was sealed last, or that was written to since.
    """

    def __init__(self, layout: Layout, *, whole: bool = False) -> None:
        self.layout = layout
        self.known = layout.ledger.known()
        self.unknown = layout.ledger.damaged()
        """So many lines of the ledger are damaged."""
        self.origins: list[Origin] = []
        self.parts: dict[int, PartFooter] = {}
        """The footers of those that can be taken for what their names say."""
        self.torn: dict[int, str] = {}
        """Why others can't, in words."""
        self.journals = layout.journals()
        self.holes: dict[int, list[Damage]] = {}
        """Where the journals of a shard are damaged."""
        self.judgings: dict[int, set[int]] = {}
        """Which versions have classified the answers in the journals of a shard, see `Begun`."""
        self._seals: dict[int, Seal] = {}
        self._whole_bytes: dict[int, int] = {}
        for index, path in list_parts(layout.data).items():
            self._look_at_part(index, path, whole=whole)
        for index, lanes in self.journals.items():
            for lane, path in lanes.items():
                with contextlib.suppress(FileNotFoundError):  # sealed meanwhile, where nobody holds the folder
                    self._look_at_journal(index, lane, path)

    def of(self, index: int) -> Known:
        """Return what was last known of a shard."""
        return self.known.get(index) or Known()

    def _look_at_part(self, index: int, path: Path, *, whole: bool) -> None:
        damage: list[str] = []
        try:
            footer, seal = read_part(path)
            self.origins.append(Origin(path, footer.job, footer.rehearsal, footer.shard_rows or _shard_rows(footer)))
            if footer.shard != index:
                damage.append(f"{path}: holds the rows of shard {footer.shard}")
            known = self.of(index)
            other = known.sealed is not None and known.sealed.seal != seal
            if whole or known.torn or other:
                read_through(path, damage)
        except PartDamaged as error:
            damage.append(error.damage)
        if damage:
            self.torn[index] = "; ".join(damage)
        else:
            self.parts[index], self._seals[index] = footer, seal

    def _look_at_journal(self, index: int, lane: int, path: Path) -> None:
        holes = self.holes.setdefault(index, [])
        end = 0
        with open_journal(path) as file:
            for found in read_own_lines(file, index, lane):
                if isinstance(found, Damage):
                    holes.append(found)
                elif not isinstance(found.event, Begun):
                    end = found.offset + found.length
            file.seek(0)
            first = next(read_lines(file), None)
        if not isinstance(first, Line):
            return
        begun = first.event if isinstance(first.event, Begun) else None
        self.judgings.setdefault(index, set()).add(begun.judging if begun else 0)
        if begun:
            self.origins.append(Origin(path, begun.job, begun.rehearsal, begun.shard_rows))
        self._whole_bytes[index] = self._whole_bytes.get(index, 0) + end

    @property
    def shard_rows(self) -> int | None:
        """How many rows the run's shards have, as far as its files say."""
        return next((origin.shard_rows for origin in self.origins if origin.shard_rows), None)

    @property
    def holds_any(self) -> bool:
        """Whether there are parts or journals."""
        return bool(self.parts or self.torn or self.journals)

    def trouble(self, index: int) -> list[str]:
        """Return what is not as it was last known of a shard, in words; empty: all is."""
        known, found = self.of(index), []
        part = part_path(self.layout.data, index)
        if index in self.torn:
            found.append(self.torn[index])
        elif known.sealed and index not in self.parts:
            found.append(f"{part}: is missing")
        elif known.sealed and self._seals[index].proof != known.sealed.seal.proof:
            found.append(f"{part}: is not the one that was finished last")
        if self.journals_are_short(index):
            found.append(f"{self.layout.journal_path(index, 0)}: is missing, or has lost its end")
        holes = self.holes.get(index, [])
        if len(holes) > known.holes:
            found += [hole.words(str(self.layout.journal_path(index, 0))) for hole in holes]
        return found

    def journals_are_short(self, index: int) -> bool:
        """Return whether a shard's journals are not all there."""
        known = self.of(index)
        gone = index not in self.journals or any(hole.other for hole in self.holes[index])
        return (gone and known.open and not known.counted) or self.whole_bytes(index) < known.whole_bytes

    def whole_bytes(self, index: int) -> int:
        """Return the bytes of a shard's journals, to the end of the last whole line of each."""
        return self._whole_bytes.get(index, 0)

    def news(self) -> Iterator[Sealed | Left]:
        """Yield the lines of parts that the ledger does not know, or knows another in the place of."""
        for index, footer in self.parts.items():
            known, seal = self.of(index).sealed, self._seals[index]
            if known is None or known.seal.proof != seal.proof:
                yield sealed(footer, seal)
                yield from [Left(index)] * (index in self.journals)
            elif known.seal != seal and not self.of(index).open:  # it was read through, and is as it was
                yield sealed(footer, seal)


def _shard_rows(footer: PartFooter) -> int:
    return footer.first // footer.shard if footer.shard else 0
