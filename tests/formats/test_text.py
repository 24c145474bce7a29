"""Values as text, for files and for people."""

from __future__ import annotations

import json
import math

from batchmix.formats.text import json_file


def test_a_json_file_has_neither_nan_nor_infinity_nor_lone_surrogates() -> None:
    value = {"a": (math.inf, [math.nan, 1.5]), "b": {"c": -math.inf}, "d": "\ud800 é"}
    assert json.loads(json_file(value)) == {"a": [None, [None, 1.5]], "b": {"c": None}, "d": "? é"}
    assert json_file({"a": math.inf}) == b'{\n "a": null\n}\n'
