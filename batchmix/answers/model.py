"""Turns a Python class into a JSON Schema, or, run as a program by its path, a class that a job file names.

The module of a named class is the user's code: it may hang, exit, or print. So it is imported in a process of its own,
which also leaves batchmix's own modules as they are. The program imports nothing from batchmix.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

import msgspec

_MARKS = ("__struct_fields__", "__dataclass_fields__", "__total__")
"""What a msgspec Struct, a dataclass and a TypedDict have, each its own."""


def model_schema(model: Any) -> dict[str, Any]:
    """Return the JSON Schema of a pydantic model, a msgspec Struct, a dataclass or a TypedDict.

    Raises `TypeError` for a class that none of them is, or with a field of another library's type.
    """
    own = getattr(model, "model_json_schema", None)
    if callable(own):  # pydantic's; it need not be installed
        schema: dict[str, Any] = own()
        return schema
    if not isinstance(model, type) or not any(hasattr(model, mark) for mark in _MARKS):
        raise TypeError(f"{model!r:.100} is not a pydantic model, a msgspec Struct, a dataclass or a TypedDict")
    return msgspec.json.schema(model)


def _answer(paths: list[str], place: str) -> str:
    """Return `{"schema": …}` as JSON, or `{"problem": …}` with the reason why there is none."""
    sys.path[:] = paths
    module, _, name = place.partition(":")
    try:
        model: Any = importlib.import_module(module)
        for part in name.split("."):
            model = getattr(model, part)
        return json.dumps({"schema": model_schema(model)})
    except BaseException as error:  # noqa: BLE001 - the import runs the user's code
        return json.dumps({"problem": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Read `[paths, place]` as JSON from standard input, and write the answer to standard output."""
    answer_to = os.dup(1)
    os.dup2(2, 1)  # what the user's code prints is no answer
    answer = _answer(*json.load(sys.stdin)).encode()
    while answer:
        answer = answer[os.write(answer_to, answer) :]
    os._exit(0)  # threads of the user's code may still run


if __name__ == "__main__":
    main()
