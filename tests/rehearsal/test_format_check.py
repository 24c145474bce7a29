"""A text that the rehearsal takes for one of a format is one to an independent validator, too."""

from __future__ import annotations

from random import Random

import jsonschema_rs
import pytest

from batchmix.rehearsal.format_check import _CHECKS, has_format

CHARACTERS = "aZ09-._~:/?#@!$&'()*+,;=%{}[]| \n\täß日\u00a0\u200b\u0300٣TtzZPpWYMDHS"
TEXTS = (
    "", "", "", "2024-02-29T10:00:00Z", "1990-12-31T23:59:60Z", "12:00:00Z", "P1Y2M", "P1W", "a@b.co", "xn--a.b", "a-.b",
    "http://a/b?c#d", "http://[::1]/", "http://a:99999/", "//a:b", "a:/b", "mailto:x", "{x}", "%41", "1/a~0", "0#", "::1",
    "1.2.3.4", "2024-02-29", "01234567-89ab-cdef-0123-456789abcdef",
)  # fmt: skip


def changed(random: Random) -> str:
    text = list(random.choice(TEXTS))
    for _ in range(random.randrange(5)):
        place = random.randrange(len(text) + 1)
        text[place : place + random.randrange(2)] = random.choice(["", random.choice(CHARACTERS)])
    return "".join(text)


@pytest.mark.parametrize("name", _CHECKS)
def test_no_text_is_taken_for_one_of_a_format_that_it_does_not_have(name: str) -> None:
    validator = jsonschema_rs.validator_for({"format": name}, validate_formats=True)
    texts = [changed(Random(seed)) for seed in range(2000)]
    found = [text for text in texts if has_format(text, name)]
    assert found
    assert not [text for text in found if not validator.is_valid(text)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("uri", "https://a.b:80/c?d=%20#e"), ("uri", "urn:x:y"), ("iri", "https://a/ä"), ("uri-reference", "../a?b"),
        ("email", "a.b+c@d.org"), ("hostname", "a-b.c"), ("duration", "P1Y2M3DT4H5M6S"), ("ipv6", "2001:db8::1"),
        ("uri-template", "/a/{b}"), ("regex", "^a+b?$"),
    ],
)  # fmt: skip
def test_usual_texts_have_their_format(name: str, text: str) -> None:
    assert has_format(text, name)
