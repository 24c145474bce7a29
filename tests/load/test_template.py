from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.errors import InputError, JobError
from batchmix.load.prompt_sources import PromptSources
from batchmix.load.prompts import Mode
from batchmix.load.template import BadRowError, Template
from tests.load.conftest import all_requests, make_job, open_rows, prompts_of


def _render(template: str, row: dict[str, Any]) -> Any:
    return Template(make_job("-", prompt=template).input).render(row)[-1]["content"]


@pytest.mark.parametrize(
    ("source", "row", "text"),
    [
        ("What of {{ c }}?\n", {"c": "<b> & é"}, "What of <b> & é?\n"),
        ("{{ a }} {{ b }} {{ c }}", {"a": 1.0, "b": True, "c": 12345678901234567890}, "1.0 True 12345678901234567890"),
        ("{{ n }}", {"n": 10**50}, str(10**50)),
        ("{{ a.b }}{% for x in a.l %},{{ x }}{% endfor %}", {"a": {"b": 1, "l": [2, 3]}}, "1,2,3"),
        ("{% if x is defined %}{{ x }}{% else %}none{% endif %}", {}, "none"),
        ("{{ x|default('d') }}", {}, "d"),
        ("{{ name }}{{ source }}{{ template_name }}", {"name": "a", "source": "b", "template_name": "c"}, "abc"),
        ("{{ dict }}{{ range }}", {"dict": "a", "range": "b"}, "ab"),
        ("no template", {"a": 1}, "no template"),
        ("{% raw %}{{ a }}{% endraw %}{# gone #}", {}, "{{ a }}"),
        ("{% for k, v in a.items() %}{{ k }}={{ v }} {% endfor %}", {"a": {"x": 1, "y": [2]}}, "x=1 y=[2] "),
        ("{{ a.get('x', 5) }}{{ b.index(3) }}{{ a['y'] }}{{ b[-1] }}", {"a": {"y": 6}, "b": [1, 3]}, "5163"),
        (
            "{{ a }} {{ b }} {{ b + [c] }}",
            {"a": {"x": [1]}, "b": [{}, None], "c": 2},
            "{'x': [1]} [{}, None] [{}, None, 2]",
        ),
        ("{{ a|tojson }}{{ a|tojson(indent=1) }}", {"a": {"x": ['é"']}}, '{"x": ["é\\""]}{\n "x": [\n  "é\\""\n ]\n}'),
        ("{{ a.upper() }} {{ '%5.1f'|format(b) }}; s.format(x)", {"a": "x", "b": 1}, "X   1.0; s.format(x)"),
    ],
)
def test_a_template_renders_its_text_unchanged(source: str, row: dict[str, Any], text: str) -> None:
    """Nothing is escaped, line breaks are kept, and numbers keep their form."""
    assert _render(source, row) == text


@pytest.mark.parametrize("value", ["x", "<é> & {{ b }}\r\n", "", 7, True, ["x"], None])
@pytest.mark.parametrize(
    "source",
    ["{{ a }}", "{{a}}\r\n", "{ {{ a }} }} {{b}}", "{{ true }} {{ a }}", "{{ a }}{# c #}", "{{ loop }}{{ a }}"],
)
def test_texts_in_plain_places_are_filled_in_as_minijinja_does(source: str, value: Any) -> None:
    row = {"a": value, "b": "2", "loop": "3", "true": "4"}

    def rendered() -> Any:
        try:
            return _render(source, row)
        except BadRowError as error:
            return str(error)

    filled_in = rendered()
    with mock.patch("batchmix.load.template._pieces", return_value=[]):
        assert rendered() == filled_in


@pytest.mark.parametrize(
    ("source", "row", "reason"),
    [
        ("{{ a }}", {"a": None}, "input.prompt: column 'a' is null"),
        ("{{ a.b }}", {"a": {"b": None}}, "input.prompt: a value in it is null"),
        ("{% for x in a %}{{ x }}{% endfor %}", {"a": [1, None]}, "a value in it is null"),
        ("{{ none }}", {}, "a value in it is null"),
        ("{{ a.b }}", {"a": {}}, "undefined value .line 1"),
        ("x\n{{ a.b.c }}", {"a": {}}, "undefined value .line 2"),
        ("{{ a.items }}", {"a": {}}, "would print a function"),
        ("{{ 1 / a }}", {"a": 0}, "1 / 0"),
        ("{% for x in range(9999) %}{% for y in range(9999) %}.{% endfor %}{% endfor %}", {}, "out of fuel"),
        ("{{ a.__class__ }}", {"a": {"b": 1}}, "undefined value"),
        ("{{ a.pop('x') }}", {"a": {"x": 1}}, "a template can't reach 'pop'"),
        ("{{ a.b.update({'x': 1}) }}", {"a": {"b": {}}}, "a template can't reach 'update'"),
        ("{{ a.append(1) }}", {"a": [1]}, "a template can't reach 'append'"),
        ("{{ a.b.copy() }}", {"a": {"b": [1]}}, "a template can't reach 'copy'"),
        ("{{ a.items().mapping.copy() }}", {"a": {"x": 1}}, "can't reach 'copy'"),
        ("{{ a.format.__globals__ }}{{ a.__class__ }}", {"a": "x"}, "undefined value"),
        ("{{ 'a' * 999999999 }}", {}, "out of fuel"),
        ("{{ [1] * 999999999 }}", {}, "too large"),
        ("{{ range(10 ** 12)|list }}", {}, "too many elements"),
        ("{{ '%0999999999d'|format(1) }}", {}, "out of fuel"),
        ("{{ a|indent(10 ** 12) }}", {"a": "x"}, "out of fuel"),
        ("{{ a|tojson(indent=10 ** 12) }}", {"a": [1]}, "tojson can't indent by more than 16"),
        ("{{ a|replace('', a) }}", {"a": "x" * 9999}, "out of fuel"),
        ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", {}, "recursion limit"),
        ("{% for x in a recursive %}{{ loop(a) }}{% endfor %}", {"a": [1]}, "recursion limit"),
        (
            "{% set ns = namespace(t='x') %}{% for x in range(99) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
            {},
            "out of fuel",
        ),
    ],
)
def test_a_value_that_cannot_be_rendered_rejects_only_its_row(source: str, row: dict[str, Any], reason: str) -> None:
    """After a null, a missing key, an error or endless work the message names the setting."""
    with pytest.raises(BadRowError, match=reason):
        _render(source, row)


@pytest.mark.parametrize(
    ("input_settings", "reason"),
    [
        ({"prompt": "a\n{{ b"}, "input.prompt: .*syntax error.*line 2"),
        ({"prompt": "x", "system": "{% if %}"}, "input.system: .*line 1"),
        ({"prompt": "{{ a|nofilter }}"}, "input.prompt: .*nofilter"),
        ({"prompt": "{% if a is notest %}{% endif %}"}, "input.prompt: .*notest"),
        ({"prompt": "{{ nofunction(a) }}"}, "input.prompt: .*nofunction is unknown .line 1 of the template.$"),
        ({"prompt": '{% include "x" %}{{ a }}'}, "input.prompt: .*template not found"),
        ({"prompt": "{{ Price (EUR) }}"}, r'is written \{\{ row\["Price \(EUR\)"\] \}\}$'),
        ({"prompt": "{{ Unit price (EUR) }}"}, r'is written \{\{ row\["Unit price \(EUR\)"\] \}\}$'),
        ({"prompt": "{{ Score [%] }}"}, r'is written \{\{ row\["Score \[%\]"\] \}\}$'),
        ({"prompt": "{{ Don't know }}"}, r'is written \{\{ row\["Don\'t know"\] \}\}$'),
        ({"prompt": "{{ '{:>999999999999}'.format(a) }}"}, r"input.prompt: templates have no .format\(\)"),
        ({"messages": [{"role": "user", "content": [{"text": "{{"}]}]}, r"messages\[0\].content\[0\].text"),
    ],
)
def test_an_invalid_template_is_refused_with_its_setting(
    input_settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """Before the data is read: the input file does not exist."""
    with pytest.raises(JobError, match=reason):
        open_rows(make_job(tmp_path / "missing.jsonl", **input_settings), tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "{% set ns = namespace(l=[1]) %}{% for x in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% set ns = namespace(l=a) %}{% for x in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for x in range(n) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% macro f(l, n) %}{{ f(l + l, n - 1) if n else 'x' }}{% endmacro %}{{ f([1], 60) }}",
        "{% set l = [1] %}" + "{% set l = l + l %}" * 60,
    ],
    ids=["its own", "the row's", "as often as the row sets", "by recursion", "literally"],
)
def test_a_template_that_doubles_a_list_endlessly_is_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template engine's fuel counts one step for it, however long the list is."""
    monkeypatch.setattr("batchmix.load.template_limits._TRIAL_S", 1.0)
    with pytest.raises(JobError, match=r"input\.prompt: the template never ends"):
        _render(source, {"a": [1], "n": 60})


def test_a_template_may_add_numbers() -> None:
    source = "{% set ns = namespace(n=0, l=[]) %}{% for x in a %}{% set ns.n = ns.n + x %}{% set ns.l = ns.l + [x] %}{% endfor %}"
    assert _render(source + "{{ ns.n + 1 }} {{ ns.l|join('+') }}", {"a": [1, 2]}) == "4 1+2"


def test_every_text_in_messages_is_a_template() -> None:
    """At any depth; everything else stays unchanged."""
    messages = [
        {"role": "system", "content": "fixed"},
        {"role": "{{ r }}", "content": [{"type": "image_url", "image_url": {"url": "{{ u }}", "n": 1}}, {"text": "t"}]},
    ]
    template = Template(make_job("-", messages=messages).input)
    assert template.required == {"r", "u"}
    assert template.render({"r": "user", "u": "http://x/"}) == [
        {"role": "system", "content": "fixed"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/", "n": 1}}, {"text": "t"}]},
    ]


def test_a_missing_column_is_found_by_the_scan(rows_file: Any, spool: Path) -> None:
    """The message names the line, the column and the existing ones; a template that tests for it is accepted."""
    path = rows_file([{"a": "x", "b": "y"}, {"a": "z"}])
    with pytest.raises(InputError, match=r"rows\.jsonl:2: has no column 'b', which the template names; it has 'a'"):
        open_rows(make_job(path, prompt="{{ a }}{{ b }}"), spool)
    job = make_job(path, prompt="{{ a }}{% if b is defined %}{{ b }}{% endif %}")
    assert prompts_of(open_rows(job, spool), job) == ["xy", "z"]


def test_a_column_that_no_row_has_is_reported_once(rows_file: Any, spool: Path) -> None:
    """Not twenty times."""
    with pytest.raises(InputError) as caught:
        open_rows(make_job(rows_file([{"a": "x"}] * 50), prompt="{{ b }}"), spool)
    assert str(caught.value).count("has no column") == 1
    assert "All 20 rows so far" in str(caught.value)


def test_a_null_rejects_only_its_row(rows_file: Any, spool: Path) -> None:
    """The other rows are sent, and the scan accepts the null."""
    job = make_job(rows_file([{"a": "x"}, {"a": None}, {"a": "z"}]), prompt="{{ a }}")
    dataset = open_rows(job, spool)
    assert prompts_of(dataset, job) == ["x", "input.prompt: column 'a' is null", "z"]
    assert dataset.scan.bad_rows == 0


@pytest.mark.parametrize(
    ("source", "used", "text"),
    [
        ("{{ a[:3] }}", {"a"}, "abc"),
        ("{{ b }}{{ a[n:] }}{{ l[::2] }}", {"a", "b", "l", "n"}, "xcde[1, 3]"),
        ("{{ a[l[0]:n] }}{{ {'k': a[1:n]}.k[:1] }}", {"a", "l", "n"}, "bb"),
        ("{% for x in l[1:] %}{{ x }}{% endfor %}", {"l"}, "23"),
        ("{{ row['a'][:2] ~ row.b }}{{ \"it's:\" ~ a[-1:] }}", {"a", "b"}, "abxit's:e"),
        ("{%- set a = a|upper %}{{ a }}", {"a"}, "ABCDE"),
        ("{% with b = b ~ a[:1] %}{{ b }}{% endwith %}", {"a", "b"}, "xa"),
        ("{% set x = 1 %}{% set x = x + n %}{{ x }}", {"n"}, "3"),
    ],
)
def test_columns_in_slices_and_self_assignments_are_found(
    source: str, used: set[str], text: str, rows_file: Any, spool: Path
) -> None:
    """minijinja itself does not report them; a row without them is an error of the file."""
    row = {"a": "abcde", "b": "x", "l": [1, 2, 3], "n": 2}
    job = make_job(rows_file([row, row]), prompt=source)
    assert Template(job.input).required == used
    assert prompts_of(open_rows(job, spool), job) == [text, text]
    gone = min(used)
    with pytest.raises(InputError, match=f":2: has no column '{gone}'"):
        open_rows(make_job(rows_file([row, {k: row[k] for k in row if k != gone}], "g.jsonl"), prompt=source), spool)


@pytest.mark.parametrize(
    ("source", "column"),
    [
        ("{{ review_text }}", "Review Text"),
        ("{{ ReviewText }}", "Review Text"),
        ("{{ row['review text'] }}", "Review Text"),
        ("{{ A_B }}", "a.b"),
        ("{{ reveiw_txt }}", "Review Text"),
        ("{{ N }}", "n"),
    ],
)
def test_a_similar_column_is_suggested(source: str, column: str, rows_file: Any, spool: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_rows(make_job(rows_file([ODD]), prompt=source), spool)
    assert f"; for '{column}' write {{{{ " in str(caught.value)


ODD = {
    "Review Text": "hi", "a.b": "d", "first-name": "F", "2nd": "G", "größe": "E", "true": "T", 'q"t': "Q", "class": "A",
    "n": 10**50, "o": {"k": [1]}, "nul": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('{{ row["Review Text"] }}{{ row[\'a.b\'] }}{{ row["first-name"] }}{{ row["2nd"] }}', "hidFG"),
        ('{{ größe }}{{ row["größe"] }}{{ row["true"] }}{{ row["q\\"t"] }}{{ row.class }}{{ class }}', "EETQAA"),
        ('{{ row["n"] }} {{ row.o.k[0] }} {{ row["o"]["k"] }}', f"{10**50} 1 [1]"),
        ('{{ row.get("2nd") }}{{ row.get("zz", "-") }}{% if row.get("zz") %}no{% endif %}', "G-"),
        ("{% set v = '2nd' %}{{ row[v] }}{% for k, v in row.items() %}{{ k if v == 'd' else '' }}{% endfor %}", "Ga.b"),
        ('{{ row["zz"]|default("q") }}{{ "row.zz" }}', "qrow.zz"),
        ("{% for row in o.k %}{{ row }}{% endfor %}", "1"),
    ],
)
def test_any_column_can_be_named_through_the_row(source: str, text: str, rows_file: Any, spool: Path) -> None:
    """`row` is the whole row, and the scan accepts what renders."""
    job = make_job(rows_file([ODD]), prompt=source)
    assert prompts_of(open_rows(job, spool), job) == [text]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ('{{ row["zz"] }}', "has no column 'zz'"),
        ("{{ row.zz }}", "has no column 'zz'"),
        ('{{ row.get("zz") }}', "has no column 'zz'"),
        ("{{ first-name }}", "has no column 'first', .*; for 'first-name' write {{ row\\[\"first-name\"\\] }}"),
        ("{{ a.b }}", "has no column 'a', .*; for 'a.b' write {{ row\\[\"a.b\"\\] }}"),
        ("{{ 2nd }}", 'not a single word is written {{ row\\["2nd"\\] }}'),
        ("{{ Review Text|trim }}", 'not a single word is written {{ row\\["Review Text"\\] }}'),
    ],
)
def test_a_missing_column_is_an_error_of_the_file_however_it_is_spelled(
    source: str, reason: str, rows_file: Any, spool: Path
) -> None:
    """For a name that is no identifier, the message has the right spelling."""
    with pytest.raises((InputError, JobError), match=reason):
        open_rows(make_job(rows_file([ODD]), prompt=source), spool)


@pytest.mark.parametrize(
    ("source", "row", "text"),
    [
        ("{{ row }} {{ row + 1 }}", {"row": 5}, "5 6"),
        ("{{ row.x }}", {"row": {"x": 7}, "x": 1}, "7"),
        ('{{ row.x }}{{ row["a b"] }}', {"row": 5, "x": 1, "a b": 2}, "12"),
        ("{% for k in row %}{{ k }}{% endfor %}{{ row.get('x') }}", {"row": 5, "x": 1}, "rowx1"),
        ("{{ row }}", {"x": 1}, "{'x': 1}"),
    ],
)
def test_a_column_named_row_takes_precedence_over_the_row_if_it_can_be_indexed(
    source: str, row: dict[str, Any], text: str
) -> None:
    assert _render(source, row) == text


def test_a_null_read_through_the_row_is_named() -> None:
    with pytest.raises(BadRowError, match=r"input\.prompt: column 'nul' is null"):
        _render("{{ row.nul }}", ODD)


def test_system_texts_messages_and_parquet_have_the_row_too(tmp_path: Path, spool: Path) -> None:
    """Only the named columns are read, unless any column might be meant."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a.b": ["x"], "big one": ["y"], "prompt": ["p"]}), path)
    job = make_job(path, system='{{ row["a.b"] }}')
    prompts = PromptSources(job).source(Mode.PLAIN, ["a.b", "big one", "prompt"])
    assert prompts.reads == {"row", "a.b", "messages", "prompt"}
    (request,) = all_requests(open_rows(job, spool), job)
    assert json.loads(request.body)["messages"][0]["content"] == "x"
    job = make_job(path, messages=[{"role": "user", "content": '{{ row[["big", "one"]|join(" ")] }}'}])
    assert PromptSources(job).source(Mode.TEMPLATE).reads is None
    assert prompts_of(open_rows(job, spool), job) == ["y"]
    with pytest.raises(InputError, match=r"a\.parquet, row 0: has no column 'zz'"):
        open_rows(make_job(path, prompt='{{ row["zz"] }}'), spool)


def test_a_template_is_compiled_once_per_start(rows_file: Any, spool: Path, monkeypatch: Any) -> None:
    """Also if the scan is reused, and for any number of passes over the rows."""
    job = make_job(rows_file([{"a": "x"}]), prompt="{{ a }}", system="{{ a }}")
    compiled: list[str] = []
    real = Template._text
    monkeypatch.setattr(Template, "_text", lambda self, text, setting: compiled.append(setting) or real(self, text, setting))  # fmt: skip
    dataset = open_rows(job, spool)
    assert prompts_of(dataset, job) == prompts_of(dataset, job) == ["x"]
    assert compiled == ["input.system", "input.prompt"]
    compiled.clear()
    assert prompts_of(open_rows(job, spool, previous=dataset.scan), job) == ["x"]
    assert compiled == ["input.system", "input.prompt"]


def test_a_template_can_be_rendered_by_several_threads_at_once() -> None:
    """Each gets its own row's messages."""
    template = Template(make_job("-", prompt="{% for x in l %}{{ x }} {% endfor %}{{ n }}").input)
    rows = [{"n": n, "l": list(range(n % 50))} for n in range(400)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(template.render, rows))
    assert found == [template.render(row) for row in rows]
