"""Disk space that is held back, so that what is in flight can still be kept when there is no more."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO

from batchmix.errors import NO_SPACE, NoSpace, disk_error
from batchmix.store.filesystem import allocate


class Reserve:
    """Space in a folder, held by a file without a name: a kill gives it back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def hold(self, size: int) -> None:
        """Take the space. Raises `NoSpace` where there is not that much."""
        try:
            self._file = tempfile.TemporaryFile(dir=self._folder, prefix=".reserve-")  # noqa: SIM115 - held for long
            allocate(self._file.fileno(), 0, size)
        except OSError as error:
            self.release()
            if error.errno in NO_SPACE:
                message = f"no space left: {self._folder} needs {size >> 20} MB free to keep what is in flight safe"
                raise NoSpace(f"{message}; make room and start the same command again") from error
            raise disk_error(error, self._folder) from error

    def release(self) -> bool:
        """Give the space back; return whether there was any."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
        return file is not None
