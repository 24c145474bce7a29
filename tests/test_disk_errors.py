"""A system error ends a run with exit code 3 and a message, and all answers are kept."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from batchmix.errors import DiskError
from tests.conftest import Bench

FAULTS: dict[str, tuple[str, int, int]] = {
    "the making of the folder": ("mkdir", errno.EROFS, 1),
    "the making of the lock": ("open", errno.EIO, 1),
    "a sync of a journal": ("fdatasync", errno.EIO, 1),
    "a sync of a part": ("fsync", errno.EIO, 4),
    "the growth of a journal": ("posix_fallocate", errno.EIO, 2),
    "the filling of a journal's new space": ("pwrite", errno.EIO, 1),
    "a read-only disk": ("replace", errno.EROFS, 1),
    "a name that is taken away": ("replace", errno.ESTALE, 3),
    "no more descriptors": ("open", errno.EMFILE, 12),
    "what goes when a shard is sealed": ("unlink", errno.EACCES, 1),
    "a journal's end": ("ftruncate", errno.EIO, 3),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_system_error_is_reported_and_the_same_command_resumes(
    kind: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a certain call on, all of them fail; if that is before anything was sent, nothing is sent."""
    name, number, first = FAULTS[kind]
    bench.write(25)
    real: Callable[..., Any] = getattr(os, name)
    calls = 0

    def fails(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += str(bench.out) in _path(args)
        if calls >= first and str(bench.out) in _path(args):
            raise OSError(number, os.strerror(number), *([_path(args)] if not isinstance(args[0], int) else []))
        return real(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fails)
        with pytest.raises(DiskError) as raised:
            bench.run()
    assert os.strerror(number) in str(raised.value)
    assert str(bench.out) in str(raised.value)
    assert raised.value.exit_code == 3
    sent = bench.standin.request_count()
    view = bench.run()
    assert (view.totals.ok, len(bench.rows())) == (25, 25)
    assert bench.standin.request_count() - sent <= 25
    if kind not in {"a sync of a journal"}:
        assert bench.standin.request_count() <= 25 + 8


def _path(args: tuple[Any, ...]) -> str:
    if isinstance(args[0], int):
        return os.readlink(f"/proc/self/fd/{args[0]}")  # noqa: PTH115
    return os.fspath(args[0])
