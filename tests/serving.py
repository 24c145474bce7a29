"""Servers of other projects, which batchmix is tested against."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest


@contextlib.contextmanager
def serving(call: list[str], pattern: str, **env: str) -> Iterator[str]:
    """Run a server, and yield the address that the server prints. `env` is added to its environment."""
    with subprocess.Popen(
        call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=os.environ | env
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                found = re.search(pattern, line)
                if found:
                    break
            else:
                raise AssertionError("the server did not start")
            # Its further output must be read: a full pipe would block it.
            reader = threading.Thread(target=process.stdout.read)
            reader.start()
            yield found[1]
        finally:
            process.terminate()


@contextlib.contextmanager
def llmock_serving(*more: str) -> Iterator[str]:
    """Run llmock and yield its address."""
    call = [_llmock(), "serve", "--host", "127.0.0.1", "--port", str(free_port()), *more]
    with serving(call, r"Uvicorn running on (http://[\d.:]+)") as url:
        yield url


@contextlib.contextmanager
def tiny_model_serving(path: Path) -> Iterator[str]:
    """Write a tiny random model to a file, serve it with llama.cpp, and yield the server's address."""
    call = [sys.executable, "-m", "tests.tiny_model", str(path)]
    with serving(call, r"listening on (http://[\d.:]+)$") as url:
        yield url


def litellm_environment(config: pytest.Config) -> Path:
    """Return an environment with LiteLLM's proxy. Skip the test if it can't be installed."""
    return package_environment(config, "litellm", "litellm[proxy]")


def package_environment(config: pytest.Config, name: str, *packages: str) -> Path:
    """Return an environment with packages, which pytest's cache keeps. Skip the test if they can't be installed."""
    folder = config.cache.mkdir(name)
    installed = folder / "installed"
    if not installed.exists():
        venv.create(folder, clear=True, with_pip=True)
        call = [folder / "bin" / "pip", "install", "-q", *packages]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{name} can't be installed: {done.stderr[-300:]}")
        installed.touch()
    return folder


@contextlib.contextmanager
def litellm_serving(environment: Path, folder: Path, upstream: str, model: str, key: str) -> Iterator[str]:
    """Run LiteLLM's proxy with one model of the provider `upstream`, and yield its address."""
    settings = {
        "model_list": [
            {
                "model_name": model,
                "litellm_params": {"model": f"openai/{model}", "api_base": upstream, "api_key": "none"},
            }
        ],
        "general_settings": {"master_key": key},
    }
    with litellm_running(environment, folder, settings) as url:
        yield url


@contextlib.contextmanager
def litellm_running(environment: Path, folder: Path, settings: Mapping[str, object]) -> Iterator[str]:
    """Run LiteLLM's proxy with settings, and yield its address."""
    (folder / "litellm.yaml").write_text(json.dumps(settings))  # JSON is YAML
    call = [str(environment / "bin" / "litellm"), "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1"]
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with serving([*call, "--port", str(free_port())], r"Uvicorn running on (http://[\d.:]+)", **offline) as url:
        yield url


def free_port() -> int:
    """Return a port of this machine on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def llmock_report(url: str) -> subprocess.CompletedProcess[str]:
    """Return llmock's report on its clients. Its exit code is 1 if a client misbehaved."""
    return subprocess.run([_llmock(), "report", "--url", url], capture_output=True, text=True, check=False)


def _llmock() -> str:
    return shutil.which("llmock") or str(Path(sys.executable).with_name("llmock"))
