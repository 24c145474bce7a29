"""`python -m tests.interrupting MODULE NAME NUMBERS CALL…` runs batchmix, and sends it signals when it calls a function."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any

from batchmix.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    module = importlib.import_module(f"batchmix.{sys.argv[1]}")
    name, numbers = sys.argv[2], sys.argv[3].split(",")
    real = getattr(module, name)

    def now(*args: Any, **kwargs: Any) -> Any:
        for number in numbers:
            os.kill(os.getpid(), int(number))
        return real(*args, **kwargs)

    setattr(module, name, now)
    sys.argv[1:] = sys.argv[4:]
    main()
