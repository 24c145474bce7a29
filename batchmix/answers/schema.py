"""Reads the JSON Schema of a job's answers, and refuses one whose answers can't be checked or stored."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
from jsonschema_rs import canonical

from batchmix.answers import model
from batchmix.errors import JobError
from batchmix.formats.display import clean

_MODEL = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_IMPORT_S = 120
"""Seconds that the import of a model's module may take."""
_MAX_LEVELS = 40
"""The most levels of a schema, each reference being one. Arrow reads no Parquet of more than 100 levels, of which a
list takes two."""
_MAX_PLACES = 10_000
"""The most schemas within a schema, with its references followed. A few definitions can stand for billions."""
_MAPS = ("properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_SINGLE = (
    "items", "additionalItems", "contains", "additionalProperties", "unevaluatedItems", "unevaluatedProperties",
    "propertyNames", "not", "if", "then", "else", "contentSchema"
)  # fmt: skip
"""The keywords whose values are schemas by name, lists of schemas, and schemas."""
_DEFINITIONS = ("#/$defs/", "#/definitions/")
_DYNAMIC = ("$dynamicRef", "$recursiveRef")
_IGNORES_SIBLINGS = (jsonschema_rs.Draft4Validator, jsonschema_rs.Draft6Validator, jsonschema_rs.Draft7Validator)
"""The drafts in which a `$ref` stands alone: what is beside it has no effect."""

Place = tuple[str, ...]
"""The keys from a schema's root to a place within it."""


def read_schema(given: str | dict[str, Any] | type, folder: Path) -> dict[str, Any]:
    """Return the JSON Schema that a job gives for its answers, as plain JSON values.

    `given` is the name of a .json file in `folder`, `module:Model` with a module there, an inline table, or a class: a
    pydantic model, a msgspec Struct, a dataclass or a TypedDict. Raises `JobError`.
    """
    name = f"{clean(given)}: " if isinstance(given, str) else ""
    try:
        return _checked(_plain(_loaded(given, folder)))
    except JobError as error:
        raise error.reworded(lambda text: f"answer.schema: {name}{text}") from error.__cause__


def resolved(schema: dict[str, Any], node: Any) -> dict[str, Any]:
    """Return a schema within `schema` with its `$ref` followed, as a dict without `$ref` at its top.

    What stands beside the `$ref` holds as well, and comes on top; the properties of both are joined.
    """
    if isinstance(node, bool):
        return {} if node else {"not": {}}
    if "$ref" not in node:
        return dict(node)
    target = resolved(schema, _target(schema, node["$ref"]))
    if jsonschema_rs.validator_cls_for(schema) in _IGNORES_SIBLINGS:
        return target
    beside = {key: value for key, value in node.items() if key != "$ref"}
    if "properties" in target and "properties" in beside:
        beside["properties"] = target["properties"] | beside["properties"]
    return target | beside


def subschemas(node: Any) -> Iterator[tuple[Place, Any]]:
    """Yield each schema directly within a schema, with the keys that lead to it. References are not followed."""
    if not isinstance(node, dict):
        return
    for key in _MAPS:
        named = node.get(key)
        for name, inner in named.items() if isinstance(named, dict) else ():
            if isinstance(inner, dict | bool):  # a dependency may be a list of names
                yield (key, name), inner
    for key in _LISTS:
        inner = node.get(key)
        yield from (((key, str(at)), one) for at, one in enumerate(inner if isinstance(inner, list) else ()))
    for key in _SINGLE:
        if isinstance(node.get(key), dict | bool):
            yield (key,), node[key]


def _loaded(given: Any, folder: Path) -> Any:
    if isinstance(given, dict):
        return given
    if not isinstance(given, str):
        try:
            return model.model_schema(given)
        except Exception as error:  # the model may be of any library, and raise what it likes
            raise JobError(f"{clean(str(given))}: has no JSON Schema: {clean(str(error))}") from error
    if given.endswith(".json"):
        return _from_file(folder / given)
    if _MODEL.fullmatch(given):
        return _from_module(given, folder)
    raise JobError("give the name of a .json file, module:Model, or the schema itself as a table")


def _from_file(path: Path) -> Any:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe may wait forever
            raise OSError("it is no regular file")
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise JobError(f"there is no such file; it is looked for in {clean(str(path.parent))}") from None
    except json.JSONDecodeError as error:
        raise JobError(f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise JobError("is not UTF-8 text; save it as UTF-8") from error
    except RecursionError as error:
        raise JobError("is nested too deeply") from error
    except (OSError, ValueError) as error:
        raise JobError(f"can't be read: {getattr(error, 'strerror', None) or error}") from error


def _from_module(place: str, folder: Path) -> Any:
    """Import `module:Model` in a process of its own, and return the model's JSON Schema."""
    call = json.dumps([[str(folder.resolve()), *sys.path], place]).encode()
    with tempfile.TemporaryFile() as written:  # a pipe might be held open by a process that the module started
        try:
            ended = subprocess.run(  # noqa: S603 - Python, and a program of our own
                [sys.executable, "-P", model.__file__], input=call, stdout=written, stderr=subprocess.DEVNULL,
                timeout=_IMPORT_S, check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise JobError(f"can't be imported: took longer than {_IMPORT_S} s") from None
        written.seek(0)
        text = written.read()
    try:
        answer = json.loads(text)
    except ValueError:
        raise JobError(f"can't be imported: it ended its process with exit code {ended.returncode}") from None
    if "problem" in answer:
        problem = str(answer["problem"])
        raise JobError(f"can't be imported: {clean(problem, len(problem))}")  # whole: half a key can't be redacted
    return answer["schema"]


def _plain(value: Any) -> dict[str, Any]:
    """Return a schema as JSON reads it again, so that one source gives one value."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError as error:
        raise JobError("holds half a surrogate pair, which is no character") from error
    except (TypeError, ValueError, RecursionError) as error:  # dates of TOML, NaN
        raise JobError(f"holds what JSON can't: {clean(str(error))}; put a date in quotes") from error
    plain = json.loads(text)
    if not isinstance(plain, dict):
        raise JobError("a JSON Schema is an object in braces")
    return plain


def _checked(schema: dict[str, Any]) -> dict[str, Any]:
    for place, node in _nodes(schema):
        _check_name(place)
        _check_references(schema, place, node)
    try:
        jsonschema_rs.validator_for(schema, validate_formats=True, offline=True)
    except jsonschema_rs.ValidationError as error:
        raise JobError(f"{_shown(error.instance_path)}is not a JSON Schema: {clean(error.message)}") from error
    except ValueError as error:
        raise JobError(f"is not a JSON Schema: {clean(str(error))}") from error
    for count, _ in enumerate(_unrolled(schema, (), schema, ())):
        if count == _MAX_PLACES:
            raise JobError(f"stands for more than {_MAX_PLACES:,} schemas once its references are followed; shorten it")
    if _allows_nothing(schema):
        raise JobError("allows no value at all, so that no answer could be valid; take out what contradicts the rest")
    return schema


def _nodes(schema: dict[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Yield the schema and all schemas within it, with their places. References are not followed."""
    waiting: list[tuple[Place, Any]] = [((), schema)]
    while waiting:
        place, node = waiting.pop()
        yield place, node
        waiting += [((*place, *keys), inner) for keys, inner in subschemas(node)]


def _check_name(place: Place) -> None:
    """Raise `JobError` if the place is that of a property whose name programs would read as another one."""
    if place[-2:-1] == ("properties",) and "\0" in place[-1]:
        raise JobError(f"{_shown(place)}the name has a NUL character, where DuckDB and others end it; rename it")


def _check_references(schema: dict[str, Any], place: Place, node: Any) -> None:
    """Raise `JobError` for a reference out of the schema, or for what would give references another meaning."""
    if not isinstance(node, dict):
        return
    if place and isinstance(node.get("$id", node.get("id")), str):
        raise JobError(f"{_shown(place)}has an $id of its own, so that references can't be followed; take it out")
    for key in _DYNAMIC:
        if key in node:
            raise JobError(f"{_shown(place)}{key} is not supported; use $ref")
    if "$ref" in node:
        try:
            target = _target(schema, node["$ref"])
        except (LookupError, TypeError, ValueError):
            target = None
        if not isinstance(target, dict | bool):
            raise JobError(
                f"{_shown(place)}$ref {clean(str(node['$ref']))} leads nowhere; it must lead to #/$defs/… or"
                " #/definitions/… in the same schema, since nothing is fetched: copy what it means to there"
            )


def _target(schema: dict[str, Any], ref: Any) -> Any:
    """Return what a reference leads to. Raises `LookupError`, `TypeError` or `ValueError` if that is nothing."""
    if not isinstance(ref, str) or not ref.startswith(_DEFINITIONS):
        raise ValueError(f"{ref} is not in the definitions")
    target: Any = schema
    for key in unquote(ref[2:]).split("/"):
        name = key.replace("~1", "/").replace("~0", "~")
        target = target[int(name) if isinstance(target, list) else name]
    return target


def _unrolled(schema: dict[str, Any], place: Place, node: Any, above: tuple[str, ...]) -> Iterator[Place]:
    """Yield the place of each schema that answers can meet. References are followed.

    `above` has an item for each level above: the reference that led to it, or an empty text. Raises `JobError` if the
    schema is recursive or too deep.
    """
    yield place
    if len(above) > _MAX_LEVELS:
        raise JobError(
            f"{_shown(place)}is nested more than {_MAX_LEVELS} levels deep, which Parquet's readers can't read; let an"
            " inner level be any JSON: {}"
        )
    if not isinstance(node, dict):
        return
    if ref := node.get("$ref"):
        if ref in above:
            raise JobError(
                f"{_shown(place)}the schema is recursive: {clean(ref)} holds itself. The type of a column is fixed"
                " before the first answer, and no Arrow type holds itself; write out the levels that you need, or let"
                " the inner one be any JSON: {}"
            )
        yield from _unrolled(schema, tuple(ref.split("/")[1:]), _target(schema, ref), (*above, ref))
    for keys, inner in subschemas(node):
        if keys[0] not in {"$defs", "definitions"}:
            yield from _unrolled(schema, (*place, *keys), inner, (*above, ""))


def _allows_nothing(schema: dict[str, Any]) -> bool:
    try:
        same = jsonschema_rs.canonicalize(schema, validate_formats=True, offline=True)
    except ValueError:
        return False  # too involved to tell
    return same.satisfiability() == canonical.Satisfiability.NO


def _shown(place: Iterable[str | int]) -> str:
    """Return the beginning of a message about a place: its JSON pointer. Empty for the root."""
    pointer = "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in place)
    return f"{clean(pointer)}: " if pointer else ""
