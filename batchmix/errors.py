"""All errors, grouped by what happens next.

What concerns one row is data (`records.Failure`), and `FailureAction` says what follows from it. What concerns the
run is raised:

    BatchmixError
    ├── UsageError            exit 2: the call, the job or the input is wrong; nothing was sent
    │   ├── JobError          the job file or a setting
    │   ├── InputError        the input data
    │   ├── RunError          the run folder: of another job, of another version, not a run at all
    │   │   └── RunUnreadable   its run.json is there and can't be read
    │   └── RunLocked         another process works on it
    ├── Stopped               exit 3: stopped early; nothing that was answered is lost; the same command resumes
    │   ├── ProviderStopped   key, balance or an outage: the same command resumes once that is mended
    │   │   └── JobRefused    model, parameters or address: the job must change, or the command
    │   ├── BudgetSpent       nothing more fits under the job's own cap
    │   ├── InputChanged      the input is no longer what was scanned
    │   ├── PartDamaged       a finished part can no longer be read
    │   ├── NoSpace           the disk is full
    │   └── DiskError         a file can't be read or written
    └── Interrupted           exit 130 or 143, after draining; the same command resumes
"""

from __future__ import annotations

import contextlib
import enum
import errno
from collections.abc import Iterator


class FailureAction(enum.Enum):
    """What happens after a request has failed."""

    REJECT = "reject"
    """The row ends: asking again would give the same."""
    RETRY = "retry"
    """The row is asked again; it costs one of its attempts."""
    PAUSE = "pause"
    """The whole lane waits; the row is asked again at no cost of an attempt."""
    STOP_PATH = "stop_path"
    """Nothing more is asked of this model at this path."""
    STOP_MODEL = "stop_model"
    """Nothing more is asked of this model."""
    STOP_RUN = "stop_run"
    """Nothing more is asked at all."""


class BatchmixError(Exception):
    """Something that a person should read; never shown with a traceback."""

    exit_code = 2


class UsageError(BatchmixError):
    """The call, the job or the input is wrong; nothing was sent."""


class JobError(UsageError):
    """A setting is missing, unknown, or has the wrong type or value."""


class InputError(UsageError):
    """The input can't be read, or rows in it can't be asked."""


class RunError(UsageError):
    """The run folder is not one that this job may continue."""


class RunUnreadable(RunError):
    """The run folder's `run.json` is cut off or damaged; what it said may still be told from what lies there."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}; put a good copy of it back, or give the run's command again: where the answers that lie"
            " there fit the job, it goes on and writes a new one"
        )
        self.reason = reason


class RunLocked(UsageError):
    """Another process works on the run folder."""


class Stopped(BatchmixError):
    """The run ended early and can be resumed."""

    exit_code = 3


class ProviderStopped(Stopped):
    """The provider refuses in a way that more requests would not change."""


class JobRefused(ProviderStopped):
    """It is the job that the provider refuses: its model, its parameters or its address, or every row."""


class BudgetSpent(Stopped):
    """Nothing more fits under the cap that the job sets itself."""


class InputChanged(Stopped):
    """The input is no longer what was scanned at the start."""


class PartDamaged(Stopped):
    """A finished part can no longer be read; `--update` asks again for the rows that are lost."""

    def __init__(self, words: str) -> None:
        super().__init__(
            f"{words}; put a good copy of it back, or give the run's command with --update, which asks again for what"
            " can't be read"
        )
        self.words = words


class NoSpace(Stopped):
    """The disk is full; all that was answered is kept."""


class DiskError(Stopped):
    """The system refuses to read or write a file of the run; all that was answered is kept."""


NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The ways in which a system says that nothing more can be written."""


PASSING = NO_SPACE | {errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE}
"""What is no fault of the place that was named: it may be over when the same command is given again."""


def disk_error(error: OSError, path: object = None) -> Stopped:
    """Return what a system says of a file as an error for a person: which file, why, and what to do."""
    place = path or error.filename
    where = f"{place}: " if place else ""
    if error.errno in NO_SPACE:
        return NoSpace(
            f"no space left for {place or 'what is to be written'}; make room and start the same command again"
        )
    reason = error.strerror or str(error) or type(error).__name__
    return DiskError(f"{where}can't be read or written: {reason}; mend that and start the same command again")


@contextlib.contextmanager
def disk_errors(path: object = None) -> Iterator[None]:
    """Raise `NoSpace` or `DiskError` for what the system refuses in the block; `path` is the file, if it is known."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


class Interrupted(BatchmixError):
    """SIGINT, SIGTERM or SIGHUP, after what was in flight had its time to end."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
