"""Servers of object storage on loopback: moto's, which answers as S3 does, and Azurite."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

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


AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key of Azurite's own account, which its documentation gives."""
_AZURE_ACCOUNT = "devstoreaccount1"


@contextlib.contextmanager
def azure_storage(config: pytest.Config) -> Iterator[dict[str, str]]:
    """Run Azurite, Microsoft's stand-in for Azure's storage, with an empty container; yield the environment for clients.

    It is installed into pytest's cache. Skips the test if it can't be.
    """
    folder, port = config.cache.mkdir("azurite"), free_port()
    program = folder / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        npm = shutil.which("npm")
        if npm is None or subprocess.run([npm, "install", "--silent", "azurite"], cwd=folder, check=False).returncode:
            pytest.skip("Azurite can't be installed")
    options = ["--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    call = [str(program), *options, "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    with subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}/{_AZURE_ACCOUNT}"
        try:
            wait_until(lambda: _made_container(url), 60)
            yield {
                "AZURE_STORAGE_ACCOUNT_NAME": _AZURE_ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
                "AZURE_STORAGE_ENDPOINT": url,
            }
        finally:
            process.terminate()


def _made_container(url: str) -> bool:
    """Create the container, by a request that is signed with the account's key ("Shared Key" in Azure's reference)."""
    now = datetime.datetime.now(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": now, "x-ms-version": "2021-08-06"}
    signed = "PUT" + "\n" * 12 + "".join(f"{name}:{value}\n" for name, value in headers.items())
    signed += f"/{_AZURE_ACCOUNT}/{_AZURE_ACCOUNT}/{BUCKET}\nrestype:container"
    digest = hmac.new(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {_AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}"
    request = urllib.request.Request(f"{url}/{BUCKET}?restype=container", method="PUT", headers=headers)
    try:
        urllib.request.urlopen(request).close()
    except OSError:
        return False
    return True
