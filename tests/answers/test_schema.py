"""A schema comes from a file, a table, a named model or a class; what can't be checked or stored is refused."""

from __future__ import annotations

import datetime
import enum
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from batchmix.answers.schema import read_schema, resolved
from batchmix.errors import JobError

REVIEW = {"type": "object", "properties": {"stars": {"type": "integer"}}, "required": ["stars"]}


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class PydanticReview(pydantic.BaseModel):
    stars: int = pydantic.Field(alias="Stars", ge=1)
    mood: Mood


class StructReview(msgspec.Struct):
    stars: int


@dataclass
class DataclassReview:
    stars: int


class DictReview(TypedDict):
    stars: int


class Tree(msgspec.Struct):
    children: list[Tree]


def refusal(given: Any, folder: Path = Path()) -> str:
    with pytest.raises(JobError) as caught:
        read_schema(given, folder)
    return str(caught.value)


def test_a_file_a_table_and_a_named_model_give_the_same_schema_each_time(tmp_path: Path) -> None:
    (tmp_path / "review.schema.json").write_text(json.dumps(REVIEW), encoding="utf-8-sig")
    (tmp_path / "own_models.py").write_text(
        "print('noise')\nimport msgspec\nclass Outer:\n    class Review(msgspec.Struct):\n        stars: int\n"
    )
    assert read_schema("review.schema.json", tmp_path) == read_schema(REVIEW, tmp_path) == REVIEW
    named = read_schema("own_models:Outer.Review", tmp_path)
    assert resolved(named, named)["properties"] == REVIEW["properties"]
    assert json.dumps(named) == json.dumps(read_schema("own_models:Outer.Review", tmp_path))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "review.schema.json")
    assert "no regular file" in refusal("review.schema.json", tmp_path)


def test_a_named_model_is_imported_in_a_process_of_its_own(tmp_path: Path) -> None:
    """So that batchmix outlives it, and a changed file counts."""
    module = tmp_path / "ending_models.py"
    module.write_text("import os\nos._exit(3)")
    assert refusal("ending_models:Review", tmp_path) == (
        "answer.schema: ending_models:Review: can't be imported: it ended its process with exit code 3"
    )
    module.write_text("class Review: pass")
    assert "is not a pydantic model" in refusal("ending_models:Review", tmp_path)
    assert refusal("ending_models:Reviews", tmp_path) == (
        "answer.schema: ending_models:Reviews: can't be imported: AttributeError: module 'ending_models' has no"
        " attribute 'Reviews'"
    )
    assert "No module named 'no_models'" in refusal("no_models:Review", tmp_path)


def test_a_named_model_that_takes_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if its module has started a process that goes on."""
    monkeypatch.setattr("batchmix.answers.schema._IMPORT_S", 1)
    (tmp_path / "slow_models.py").write_text(
        "import os, time\nparent = os.fork()\nfor _ in range(200):\n    time.sleep(0.1)\n"
    )
    begin = time.monotonic()
    assert refusal("slow_models:Review", tmp_path).endswith("can't be imported: took longer than 1 s")
    assert time.monotonic() - begin < 15


def test_a_named_model_has_the_schema_of_its_class(tmp_path: Path) -> None:
    (tmp_path / "shown_models.py").write_text(
        "import pydantic\nclass Review(pydantic.BaseModel):\n    stars: int = pydantic.Field(5, alias='Stars', ge=1)\n"
    )
    assert read_schema("shown_models:Review", tmp_path) == {
        "properties": {"Stars": {"default": 5, "minimum": 1, "title": "Stars", "type": "integer"}},
        "title": "Review",
        "type": "object",
    }


def test_a_schema_that_was_read_is_read_again_as_it_is(tmp_path: Path) -> None:
    schema = read_schema(PydanticReview, tmp_path)
    assert json.dumps(read_schema(schema, tmp_path)) == json.dumps(schema)


@pytest.mark.parametrize("model", [StructReview, DataclassReview, DictReview])
def test_classes_of_the_standard_library_and_msgspec_are_schemas(model: type) -> None:
    schema = read_schema(model, Path())
    assert resolved(schema, schema)["properties"] == REVIEW["properties"]


def test_a_pydantic_model_keeps_its_aliases_and_limits() -> None:
    schema = read_schema(PydanticReview, Path())
    assert schema == PydanticReview.model_json_schema()
    assert schema["properties"]["Stars"] == {"minimum": 1, "title": "Stars", "type": "integer"}


def test_a_class_without_a_schema_is_refused() -> None:
    assert "is not a pydantic model, a msgspec Struct, a dataclass or a TypedDict" in refusal(int)
    assert "is not a pydantic model" in refusal(StructReview(1))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "is not JSON: line 1, column 2: Expecting property name enclosed in double quotes"),
        (b"\xff{}", "is not UTF-8 text; save it as UTF-8"),
        (b"[]", "a JSON Schema is an object in braces"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"const": NaN}', "holds what JSON can't: Out of range float values are not JSON compliant; put a date in quotes"),
        (b'{"title": "\\ud800"}', "holds half a surrogate pair, which is no character"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_schema_is_refused(tmp_path: Path, text: bytes, reason: str) -> None:
    (tmp_path / "x.json").write_bytes(text)
    assert refusal("x.json", tmp_path).startswith(f"answer.schema: x.json: {reason}")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    assert refusal("x.json", tmp_path) == (
        f"answer.schema: x.json: there is no such file; it is looked for in {tmp_path}"
    )
    assert refusal("folder.json", tmp_path) == "answer.schema: folder.json: can't be read: Is a directory"


def test_a_name_of_no_known_kind_is_refused() -> None:
    assert refusal("review.yaml") == (
        "answer.schema: review.yaml: give the name of a .json file, module:Model, or the schema itself as a table"
    )
    assert "\x1b" not in refusal("\x1b[31m")


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"properties": {"a/b": {"type": "strin"}}}, '/properties/a~1b/type: is not a JSON Schema: "strin" is not valid'),
        ({"properties": 3}, "/properties: is not a JSON Schema"),
        ({"type": "string", "pattern": "("}, "/pattern: is not a JSON Schema"),
        ({"$schema": "http://127.0.0.1:9/none"}, "is not a JSON Schema: Unknown meta-schema"),
        ({"const": datetime.date(2024, 1, 1)}, "holds what JSON can't"),
        ({"items": {"properties": {"a\0b": True}}}, "/items/properties/a\\x00b: the name has a NUL character"),
        ({"enum": []}, "allows no value at all"),
        ({"type": "object", "required": ["a"], "properties": {"a": False}}, "allows no value at all"),
        ({"items": {"$ref": "http://127.0.0.1:9/x"}}, "/items: $ref http://127.0.0.1:9/x leads nowhere; it must lead to #/$defs/…"),
        ({"items": {"$ref": "#/$defs/a"}}, "/items: $ref #/$defs/a leads nowhere"),
        ({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": 3}}, "/items: $ref #/$defs/a leads nowhere"),
        ({"items": {"$ref": "#/$defs/a/x"}, "$defs": {"a": [1]}}, "/items: $ref #/$defs/a/x leads nowhere"),
        ({"items": {"$ref": 3}}, "/items: $ref 3 leads nowhere"),
        ({"items": {"$ref": "#"}}, "/items: $ref # leads nowhere"),
        ({"items": {"$dynamicRef": "#a"}}, "/items: $dynamicRef is not supported; use $ref"),
        ({"$defs": {"a": {"$id": "http://x"}}}, "/$defs/a: has an $id of its own"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}, "/$defs/a/items: the schema is recursive: #/$defs/a holds itself."),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "/$defs/b: the schema is recursive"),
        (Tree, "/$defs/Tree/properties/children/items: the schema is recursive: #/$defs/Tree holds itself."),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_checked_or_stored_is_refused_at_its_place(schema: Any, reason: str) -> None:
    assert refusal(schema).startswith(f"answer.schema: {reason}")


def test_a_schema_of_few_definitions_and_billions_of_fields_is_refused() -> None:
    names = [f"d{number}" for number in range(15)]
    defs = {
        name: {"type": "object", "properties": {"a": {"$ref": f"#/$defs/{inner}"}, "b": {"$ref": f"#/$defs/{inner}"}}}
        for name, inner in zip(names, [*names[1:], "end"], strict=True)
    }
    assert "stands for more than 10,000 schemas" in refusal({"$ref": "#/$defs/d0", "$defs": {**defs, "end": {}}})


def test_a_schema_deeper_than_parquet_can_be_read_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(41):
        schema = {"type": "array", "items": schema}
    assert "is nested more than 40 levels deep" in refusal(schema)


def test_words_of_a_schema_that_are_data_are_no_references() -> None:
    schema = {
        "type": "object",
        "properties": {"$ref": {"const": {"$ref": "http://x"}}, "$id": {"enum": [{"$ref": "#"}]}, "id": {}},
        "default": {"$ref": "x"},
    }
    assert read_schema(schema, Path()) == schema


def test_an_unused_recursive_definition_does_no_harm() -> None:
    schema = {"type": "string", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}
    assert read_schema(schema, Path()) == schema


def test_what_stands_beside_a_reference_holds_as_well() -> None:
    defs = {"$defs": {"a/b %": {"type": "object", "properties": {"x": {}}}}}
    beside = {"$ref": "#/$defs/a~1b%20%25", "title": "A", "properties": {"y": {}}}
    assert resolved(defs, beside) == {"type": "object", "properties": {"x": {}, "y": {}}, "title": "A"}
    draft_7 = {"$schema": "http://json-schema.org/draft-07/schema#", **defs}
    assert resolved(draft_7, beside) == {"type": "object", "properties": {"x": {}}}
    assert (resolved(defs, True), resolved(defs, False)) == ({}, {"not": {}})
