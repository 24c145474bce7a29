"""A base URL is valid, or is refused before anything is sent."""

from __future__ import annotations

import pytest

from batchmix.errors import JobError
from batchmix.job import checked_url


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("https://aihubmix.com", "https://aihubmix.com/v1"),
        (" http://127.0.0.1:8000/v1/ ", "http://127.0.0.1:8000/v1"),
        ("HTTP://LocalHost", "http://LocalHost/v1"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://[fe80::1%25eth0]/v1", "http://[fe80::1%25eth0]/v1"),
        ("http://my_server.internal./v1", "http://my_server.internal./v1"),
        ("http://bücher.example", "http://bücher.example/v1"),
        ("http://10.0.0.1.", "http://10.0.0.1./v1"),
        ("http://3com.example", "http://3com.example/v1"),
    ],
)
def test_a_base_url_is_normalised(url: str, form: str) -> None:
    assert checked_url(url) == form


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://a b/v1", "blank"),
        ("http://127.0.0.1 :80/v1", "blank"),
        ("http://a/v1\n/x", "blank"),
        ("http://a..b/v1", "host"),
        (f"http://{'a' * 64}.com/v1", "host"),
        ("http://127.1/v1", "host"),
        ("http://1.2.3.4.5/v1", "host"),
        ("http://./v1", "host"),
        ("http://[::1/v1", "is not a URL"),
        ("http://a:99999/v1", "port"),
        ("http:///v1", "http or https URL"),
        ("ftp://a/v1", "http or https URL"),
        ("http://u:p@a/v1", "user name"),
        ("http://a/v1?x=1", "path"),
    ],
)
def test_an_invalid_base_url_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(JobError, match=why):
        checked_url(url)
