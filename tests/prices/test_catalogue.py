"""The catalogue is read whatever it contains, stored for outages, and used to correct mistyped models."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.errors import JobError
from batchmix.job import Price
from batchmix.prices.catalogue import Catalogue, CatalogueModel, get_catalogue, has_catalogue, read_catalogue
from tests.gateway import Gateway, model

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["model_id", "pricing", "input", "data"]), inner),
)


def test_a_model_is_read_with_its_prices_and_bounds(gateway: Gateway) -> None:
    models = read_catalogue(gateway.body)
    assert models["gpt-4o-mini"] == CatalogueModel("gpt-4o-mini", Price(0.15, 0.6, 0.075), 128000, 16384, "", "")
    assert models["gpt-4o"].price == Price(2.5, 10.0)


def test_odd_entries_are_left_out_and_a_missing_price_is_not_zero() -> None:
    odd = [
        model("a", pricing=None, context_length="many", max_output=-1),
        model("b", pricing={"input": "0.5", "output": 1, "cache_read": -2}),
        model("c", pricing={"input": 1, "output": float("1e400")}) | {"pricing": {"input": 1}},
        model("d", pricing={"input": 10**400, "output": 1}),
        model("e", pricing={"input": 1, "output": "1e300"}),
        model("f", pricing={"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75}),
        model("g", pricing={"input": 0.02}, types="embedding"),
        {"no": "id"}, 7, None,
    ]  # fmt: skip
    models = read_catalogue(json.dumps({"data": odd}).encode())
    assert models["a"] == CatalogueModel("a", None, None, None, "", "")
    assert models["b"].price == Price(0.5, 1.0)
    assert (models["c"].price, models["d"].price, models["e"].price) == (None, None, None)
    assert models["f"].price == Price(3, 15, 0.3, cache_write=3.75)
    assert models["g"].price == Price(0.02, 0.0)
    assert set(models) == set("abcdefg")


@pytest.mark.parametrize(
    "number", ["9" * 400, "9" * 5000, '"1e999"', "1e400", "NaN", "-Infinity", "[" * 500 + "]" * 500]
)
def test_one_number_out_of_range_leaves_the_prices_of_other_models(number: str) -> None:
    pricing = f'{{"input":{number},"output":1,"cache_read":{number},"tiers":{number}}}'
    odd = f'{{"model_id":"a","pricing":{pricing},"context_length":{number},"max_output":{number}}}'
    models = read_catalogue(f'{{"data":[{odd},{json.dumps(model("b"))}],"x":{number}}}'.encode())
    assert (models["a"].price, models["b"].price) == (None, Price(0.15, 0.6, 0.075))


def test_a_tiered_price_is_shown_but_not_used() -> None:
    """No price is better than a wrong one, and the form of tiers is undocumented."""
    pricing = {"input": 1.25, "output": 10, "tiers": [{"anything": 200000}]}
    models = read_catalogue(json.dumps({"data": [model("long", pricing=pricing), model("plain")]}).encode())
    assert (models["long"].price, models["long"].tiered) == (Price(1.25, 10), True)
    assert set(Catalogue(models, fresh=True).prices) == {"plain"}


@given(values)
def test_any_json_is_read_or_refused_with_a_message(found: object) -> None:
    try:
        models = read_catalogue(json.dumps(found).encode())
    except ValueError:
        return
    assert all(name.isprintable() for name in models)


def test_no_text_of_the_catalogue_can_control_a_terminal() -> None:
    body = json.dumps({"data": [model("\x1b[2Jm", retire_stage="retired\r\n", successor_model="\u202ex")]}).encode()
    assert read_catalogue(body)["?[2Jm"] == CatalogueModel(
        "?[2Jm", Price(0.15, 0.6, 0.075), 128000, 16384, "retired", "?x"
    )  # fmt: skip


def test_the_catalogue_is_requested_with_its_etag_and_stored_for_this_user_only(
    gateway: Gateway, tmp_path: Path
) -> None:
    first = get_catalogue(f"{gateway.url}/v1", tmp_path)
    second = get_catalogue(f"{gateway.url}/v1", tmp_path)
    assert first == second
    assert first is not None
    assert first.fresh
    assert gateway.gets == [("/api/v1/models", None), ("/api/v1/models", '"one"')]
    (kept,) = tmp_path.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@pytest.mark.parametrize("trouble", ["status", "page", "gone"])
def test_the_stored_copy_is_used_when_the_gateway_fails(gateway: Gateway, tmp_path: Path, trouble: str) -> None:
    url = f"{gateway.url}/v1"
    known = get_catalogue(url, tmp_path)
    assert known is not None
    gateway.etag = '"two"'
    if trouble == "status":
        gateway.status = 500
    gateway.body = b"<html>" if trouble == "page" else b""
    old = get_catalogue(url, tmp_path)
    assert old == Catalogue(known.models, fresh=False)
    old.check(["never heard of"])  # it may be newer than the copy


def test_there_is_no_catalogue_when_the_gateway_fails_without_a_stored_copy(gateway: Gateway, tmp_path: Path) -> None:
    gateway.status = 500
    assert get_catalogue(f"{gateway.url}/v1", tmp_path) is None
    assert get_catalogue("http://127.0.0.1:1/v1", tmp_path) is None


def test_a_damaged_copy_is_fetched_again(gateway: Gateway, tmp_path: Path) -> None:
    url = f"{gateway.url}/v1"
    get_catalogue(url, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    again = get_catalogue(url, tmp_path)
    assert again is not None
    assert again.fresh


def test_a_mistyped_or_retired_model_is_reported_with_a_replacement() -> None:
    models = read_catalogue(
        json.dumps(
            {"data": [model("gpt-4o-mini"), model("gpt-3", retire_stage="retired", successor_model="gpt-4o-mini")]}
        ).encode()
    )
    catalogue = Catalogue(models, fresh=True)
    catalogue.check(["gpt-4o-mini"])
    with pytest.raises(JobError, match=r"did you mean gpt-4o-mini\?"):
        catalogue.check(["GPT-4o-mini"])
    with pytest.raises(JobError, match="its successor is gpt-4o-mini"):
        catalogue.check(["gpt-3"])


def test_only_the_gateways_own_hosts_have_a_catalogue() -> None:
    assert has_catalogue("https://aihubmix.com/v1")
    assert has_catalogue("https://api.inferera.com/v1")
    assert not has_catalogue("https://notaihubmix.com/v1")
    assert not has_catalogue("http://127.0.0.1:8000/v1")


@pytest.mark.parametrize(
    ("listed", "read"),
    [
        ("thinking, tools,structured_outputs", ("thinking", "tools", "structured_outputs")),
        (["tools", "structured_outputs", 7], ("tools", "structured_outputs")),
        (",".join([*(f"feature_{number}" for number in range(40)), "structured_outputs"]), None),
        (None, ()),
    ],
)
def test_the_features_of_a_model_are_read_however_many_there_are(listed: object, read: tuple[str, ...] | None) -> None:
    found = read_catalogue(json.dumps({"data": [model("a") | {"features": listed}]}).encode())["a"].features
    if read is None:
        assert len(found) == 41
        assert found[-1] == "structured_outputs"
    else:
        assert found == read
