"""A server of object storage on loopback: moto's, which answers as S3 does, over HTTP."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

from tests.polling import wait_until
from tests.serving import free_port

BUCKET = "answers"


@contextlib.contextmanager
def object_storage(bucket: str = BUCKET, core: int | None = None) -> Iterator[dict[str, str]]:
    """Run a server with an empty bucket; yield the environment in which clients find it. `core` is the one it may use."""
    port = free_port()
    call = [sys.executable, "-m", "moto.server", "-p", str(port)]
    with subprocess.Popen(
        call if core is None else ["taskset", "-c", str(core), *call],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: _answers(f"{url}/moto-api/"), 60)
            urllib.request.urlopen(urllib.request.Request(f"{url}/{bucket}", method="PUT")).close()
            yield {
                "AWS_ACCESS_KEY_ID": "any",
                "AWS_SECRET_ACCESS_KEY": "any",
                "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": url,
            }
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url).close()
    except OSError:
        return False
    return True
