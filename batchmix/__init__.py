"""batchmix: a dataset of prompts in, a dataset of answers out.

From Python: `import batchmix as bm`, then `bm.run(table, "Classify: {{ text }}", model="gpt-4o-mini")`. It is the same
run as that of the command line, in the same run folder. The names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from batchmix.api.calls import arun as arun
    from batchmix.api.calls import open as open  # noqa: A004 - as in gzip or tarfile
    from batchmix.api.calls import run as run
    from batchmix.api.calls import stream as stream
    from batchmix.api.evaluation import Calibration as Calibration
    from batchmix.api.evaluation import Diff as Diff
    from batchmix.api.evaluation import Evaluation as Evaluation
    from batchmix.api.evaluation import calibrate as calibrate
    from batchmix.api.evaluation import diff as diff
    from batchmix.api.evaluation import evaluate as evaluate
    from batchmix.api.job import Job as Job
    from batchmix.api.planning import Plan as Plan
    from batchmix.api.planning import plan as plan
    from batchmix.api.results import Result as Result
    from batchmix.api.run import Run as Run
    from batchmix.errors import BatchmixError as BatchmixError
    from batchmix.errors import Interrupted as Interrupted
    from batchmix.errors import RowsFailed as RowsFailed
    from batchmix.errors import Stopped as Stopped
    from batchmix.errors import UsageError as UsageError

_MODULES = {
    "arun": "api.calls",
    "calibrate": "api.evaluation",
    "diff": "api.evaluation",
    "evaluate": "api.evaluation",
    "open": "api.calls",
    "plan": "api.planning",
    "run": "api.calls",
    "stream": "api.calls",
    "Calibration": "api.evaluation",
    "Diff": "api.evaluation",
    "Evaluation": "api.evaluation",
    "Job": "api.job",
    "Plan": "api.planning",
    "Result": "api.results",
    "Run": "api.run",
    "BatchmixError": "errors",
    "Interrupted": "errors",
    "RowsFailed": "errors",
    "Stopped": "errors",
    "UsageError": "errors",
}
"""The module of each public name."""
__all__ = [*_MODULES, "__version__"]  # noqa: PLE0604 - they are all texts


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"batchmix.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
