"""Exceptions that concern the whole run, and the actions that follow a failed request.

A failed request raises nothing: it is a `records.Failure`, and its `FailureAction` says what happens next. Errors that
concern the whole run are raised:

    BatchmixError
    ├── UsageError            exit 2: the call, the job or the input is wrong; nothing was sent
    │   ├── JobError          the job file or a setting
    │   ├── InputError        the input data
    │   ├── RunError          the run folder belongs to another job or version, or is not a run folder
    │   │   └── RunUnreadable   its run.json exists, but can't be read
    │   └── RunLocked         another process works on the run folder
    ├── Stopped               exit 3: the run stopped early; all answers are kept; the same command resumes
    │   ├── ProviderStopped   the key, the balance or an outage: the same command resumes once that is fixed
    │   │   └── JobRefused    the model, parameters or base URL: the job or the command must change
    │   ├── BudgetSpent       no further request fits under the job's budget
    │   ├── InputChanged      the input has changed since it was scanned
    │   ├── PartDamaged       a finished part can no longer be read
    │   ├── NoSpace           the disk is full
    │   ├── DiskError         a file can't be read or written
    │   ├── ObjectsUnreachable  object storage can't be read or written
    │   │   └── ObjectMissing     an object does not exist there
    │   └── LockLost          another process has taken the run over
    ├── Interrupted           exit 129, 130 or 143, after a signal and draining; the same command resumes
    └── RowsFailed            exit 1: some rows have no answer; raised only on request, from Python
"""

from __future__ import annotations

import contextlib
import enum
import errno
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from batchmix import Run


class FailureAction(enum.Enum):
    """What happens after a request has failed."""

    REJECT = "reject"
    """The row is rejected, because another attempt would fail in the same way."""
    RETRY = "retry"
    """The row is sent again. The next attempt counts against `retry.attempts`."""
    KEEP = "keep"
    """The row counts as answered, although its answer does not fit the job's schema."""
    PAUSE = "pause"
    """The whole lane waits, and then the row is sent again. This does not count against `retry.attempts`."""
    STOP_PATH = "stop_path"
    """Nothing more is sent to this model at this URL path."""
    STOP_MODEL = "stop_model"
    """Nothing more is sent to this model."""
    STOP_RUN = "stop_run"
    """Nothing more is sent at all."""


class BatchmixError(Exception):
    """An error whose message is shown to the user, without a traceback."""

    exit_code = 2
    run: Run | None = None
    """From Python, the run that this error ended, with its results so far: `error.run.go_on()` goes on with it. None if
    the run did not begin."""

    def _render_traceback_(self) -> list[str]:
        """Return the lines that a notebook shows in place of a traceback through batchmix's code."""
        return [f"{type(self).__name__}: {self}"]

    def reworded(self, reword: Callable[[str], str]) -> Self:
        """Change the message by a function, and return the error."""
        self.args = (reword(str(self)), *self.args[1:])
        return self

    def of_run(self, run: Run) -> Self:
        """Set `run`, and return the error."""
        self.run = run
        return self


class UsageError(BatchmixError):
    """The call, the job or the input is wrong. Nothing was sent."""


class JobError(UsageError):
    """A setting is missing, unknown, or has the wrong type or value."""


class InputError(UsageError):
    """The input can't be read, or some of its rows can't be turned into requests."""


class RunError(UsageError):
    """This job can't continue the run in the run folder."""


class RunUnreadable(RunError):
    """The `run.json` of the run folder is damaged. The folder's parts and journals may still be readable."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}; put a good copy of it back, or give the run's command again: where the answers that lie"
            " there fit the job, it resumes and writes a new one"
        )
        self.reason = reason


class RunLocked(UsageError):
    """Another process is using the run folder."""


class Stopped(BatchmixError):
    """The run ended early and can be resumed."""

    exit_code = 3


class ProviderStopped(Stopped):
    """The provider refuses all requests, or can't be reached."""


class JobRefused(ProviderStopped):
    """The provider refuses the job itself: its model, parameters or base URL, or every row."""


class BudgetSpent(Stopped):
    """No further request fits under the job's budget."""


class InputChanged(Stopped):
    """The input has changed since it was scanned."""


class PartDamaged(Stopped):
    """A finished part can no longer be read. With `--update`, its rows are sent again."""

    def __init__(self, damage: str) -> None:
        super().__init__(
            f"{damage}; put a good copy of it back, or give the run's command with --update, which sends again what"
            " can't be read"
        )
        self.damage = damage


class NoSpace(Stopped):
    """The disk is full. All answers so far are kept."""


class DiskError(Stopped):
    """The system can't read or write a file of the run. All answers so far are kept."""


class ObjectsUnreachable(Stopped):
    """Object storage can't be read or written."""


class ObjectMissing(ObjectsUnreachable):
    """An object does not exist."""


class LockLost(Stopped):
    """Another process has taken the run over, or may do so now."""


NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The error numbers of a full disk or an exhausted quota, or of a file that is too large."""


TEMPORARY_ERRORS = NO_SPACE | {errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE}
"""The error numbers of problems that may pass, such as a full disk: the same command may succeed later."""


def disk_error(error: OSError, path: object = None) -> Stopped:
    """Convert an `OSError` to `NoSpace` or `DiskError`. The message names the file, the reason and what to do."""
    place = path or error.filename
    where = f"{place}: " if place else ""
    if error.errno in NO_SPACE:
        return NoSpace(
            f"no space left for {place or 'what is to be written'}; make room and start the same command again"
        )
    reason = error.strerror or str(error) or type(error).__name__
    return DiskError(f"{where}can't be read or written: {reason}; fix that and start the same command again")


@contextlib.contextmanager
def disk_errors(path: object = None) -> Iterator[None]:
    """Convert an `OSError` in the `with` block to `NoSpace` or `DiskError`. `path` is the file, if known."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


class Interrupted(BatchmixError):
    """SIGINT, SIGTERM or SIGHUP ended the run. Requests in flight were given time to finish."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class RowsFailed(BatchmixError):
    """Some rows have no answer. A run does not raise it by itself."""

    exit_code = 1
