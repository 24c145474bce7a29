"""What runs make of limits that real gateways enforce: python -m tests.benchmarks.gateways [--only NAME] [--rounds 3].

Each case starts a gateway of another project in front of the stand-in, with a limit that nobody told the run: LiteLLM's
proxy, nginx (`limit_req`, `limit_conn`, `max_conns`), HAProxy with a full queue, llmock, and the stand-in's own rules. An
nginx in front of them, or the gateway's own log, notes each request. Printed are the rows answered, the seconds beside the
least possible, the requests, and which share of them was refused: of all, and of those later than ten seconds after the
first. A figure outside its bound is marked with `!`. With --rounds, it is the median of so many runs.

A case takes about a minute a round. What is not installed is skipped, with the command that installs it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from tests.killing import command, fetch, provider, write_rows
from tests.serving import free_port, litellm_running, llmock_report, llmock_serving

LATE_S, LONGEST_S = 10.0, 400.0
"""What was refused later than this after the first request counts by itself. A run that takes longer is interrupted."""
RPM, TPM, PROMPTS, MAX_TOKENS = 1200, 60_000, 1000, 50
"""What llmock allows a minute, and what it is asked. It charges floor(body bytes / 4) + max_tokens for what it lets in."""
LITELLM = "python3 -m venv litellm && litellm/bin/pip install 'litellm[proxy]', then --litellm litellm"
_NGINX = """daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  log_format short '$msec $request_time $status'; access_log {root}/access.log short;
  client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root}; uwsgi_temp_path {root};
  scgi_temp_path {root}; client_body_buffer_size 64k; keepalive_requests 1000000; proxy_read_timeout 300s;
  limit_req_zone $server_addr zone=requests:1m rate=5r/s; limit_conn_zone $server_addr zone=in_flight:1m;
  upstream provider {{ server {provider} {server}; keepalive 64; }}
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ {rule} proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
}}"""
_HAPROXY = """defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout queue {wait}
frontend all
  bind 127.0.0.1:{port}
  default_backend provider
backend provider
  {rule}
  server one {provider} maxconn 4
"""
_LITELLM_AUTH = """from litellm.proxy._types import UserAPIKeyAuth
async def auth(request, api_key):
    return UserAPIKeyAuth(api_key="k" * 64, rpm_limit={rpm})
"""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a gateway was asked: when each request began, in seconds, and whether it was refused."""

    began: list[float]
    refused: list[bool]

    def refused_share(self, after_s: float = 0.0) -> float:
        """Return the share of the requests that were refused, of those that began so long after the first."""
        first = min(self.began, default=0.0)
        late = [refused for at, refused in zip(self.began, self.refused, strict=True) if at >= first + after_s]
        return sum(late) / len(late) if late else 0.0


@dataclasses.dataclass(frozen=True)
class Case:
    """A gateway with a limit."""

    name: str
    rows: int
    serve: Callable[[Path], contextlib.AbstractContextManager[tuple[str, Callable[[], Seen]]]]
    """Runs the gateway; yields its address, and what returns the requests that it got."""
    least_s: Callable[[], float]
    """Returns the least time in which the rows could be answered, in seconds."""
    used: float = 0.93
    """The least share of the possible speed that is wanted."""
    refused: float = 0.05
    """The largest share of late requests that may be refused, or of all requests if `of_all`."""
    of_all: bool = False
    requests: int | None = None
    """The most requests that may be sent. None if only the share counts."""
    options: tuple[str, ...] = ()
    is_llmock: bool = False
    """Whether the rows are the prompts for llmock."""


# Gateways


def _program(name: str, package: str) -> str:
    found = shutil.which(name) or f"/usr/sbin/{name}"
    if not Path(found).exists():
        raise LookupError(f"{name} is missing; on Debian and Ubuntu: apt-get install {package}")
    return found


@contextlib.contextmanager
def _running(call: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(call)
    try:
        for _ in range(250):
            with contextlib.suppress(OSError):  # only a connection: a request would count towards a limit
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def noting(root: Path, url: str, rule: str = "", server: str = "") -> Iterator[tuple[str, Callable[[], Seen]]]:
    """Run an nginx in front of a server that notes all requests, and may refuse some by a rule."""
    port, host = free_port(), url.removeprefix("http://").partition("/")[0]
    text = _NGINX.format(root=root, port=port, provider=host, rule=rule, server=server)
    (root / "nginx.conf").write_text(text)
    with _running([_program("nginx", "nginx-light"), "-c", f"{root}/nginx.conf", "-p", str(root)], port):

        def seen() -> Seen:
            lines = [line.split() for line in (root / "access.log").read_text().splitlines()]
            return Seen([float(end) - float(took) for end, took, _ in lines], [line[2] != "200" for line in lines])

        yield f"http://127.0.0.1:{port}/v1", seen


def nginx(rule: str, latency: str = "0.1-0.3", server: str = "") -> Callable[..., object]:
    """Return what runs an nginx with a rule in front of the stand-in."""

    @contextlib.contextmanager
    def serve(root: Path) -> Iterator[tuple[str, Callable[[], Seen]]]:
        with provider(f"latency={latency}") as url, noting(root, url, rule, server) as found:
            yield found

    return serve


def haproxy(wait: str, latency: str, rule: str = "") -> Callable[..., object]:
    """Return what runs a HAProxy with four slots; more requests wait in its queue as long as `wait`, or are refused."""

    @contextlib.contextmanager
    def serve(root: Path) -> Iterator[tuple[str, Callable[[], Seen]]]:
        port, program = free_port(), _program("haproxy", "haproxy")
        with provider(f"latency={latency}") as url:
            host = url.removeprefix("http://").partition("/")[0]
            (root / "haproxy.cfg").write_text(_HAPROXY.format(port=port, provider=host, wait=wait, rule=rule))
            with (
                _running([program, "-db", "-f", str(root / "haproxy.cfg")], port),
                noting(root, f"http://127.0.0.1:{port}") as found,
            ):
                yield found

    return serve


def litellm(rpm: int, *, by_key: bool) -> Callable[..., object]:
    """Return what runs LiteLLM's proxy: fixed minutes for the model, or minutes from a key's first request on."""

    @contextlib.contextmanager
    def serve(root: Path) -> Iterator[tuple[str, Callable[[], Seen]]]:
        environment = Path(os.environ.get("LITELLM", "litellm")).absolute()
        if not (environment / "bin" / "litellm").exists():
            raise LookupError(f"litellm is missing: {LITELLM}")
        with provider("latency=0.1-0.3") as upstream:
            params = {"model": "openai/m", "api_base": upstream, "api_key": "none"} | ({} if by_key else {"rpm": rpm})
            general: dict[str, object] = {"dangerously_permit_weak_or_unset_master_key": True}
            if by_key:
                (root / "gateway_auth.py").write_text(_LITELLM_AUTH.format(rpm=rpm))
                general["custom_auth"] = "gateway_auth.auth"
            settings = {
                "model_list": [{"model_name": "m", "litellm_params": params}],
                "router_settings": {"optional_pre_call_checks": ["enforce_model_rate_limits"], "num_retries": 0},
                "general_settings": general,
            }
            with litellm_running(environment, root, settings) as url, noting(root, url) as found:
                yield found

    return serve


@contextlib.contextmanager
def llmock(root: Path) -> Iterator[tuple[str, Callable[[], Seen]]]:
    """Run llmock with its limits. Its own report must find nothing to blame."""
    with llmock_serving("--rpm", str(RPM), "--tpm", str(TPM)) as url, noting(root, url) as found:
        yield found
        verdict = llmock_report(url)
        if verdict.returncode:
            print(verdict.stdout[-2000:])


def write_prompts(path: Path) -> None:
    """Write the prompts for llmock."""
    with path.open("w") as file:
        file.writelines(json.dumps({"text": f"{n:04} {'words and more ' * 13}"[:200]}) + "\n" for n in range(PROMPTS))


def least_for_llmock_s() -> float:
    """Return the least time for the prompts: what goes beyond the saved minute, at the limit's rate. In seconds."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 204}], "max_tokens": MAX_TOKENS}
    charged = PROMPTS * (len(json.dumps(body, separators=(",", ":"))) // 4 + MAX_TOKENS)
    return max((charged - TPM) / (TPM / 60), (PROMPTS - RPM) / (RPM / 60))


def rehearsal(behaviour: str) -> Callable[..., object]:
    """Return what runs the stand-in with rules of its own."""

    @contextlib.contextmanager
    def serve(root: Path) -> Iterator[tuple[str, Callable[[], Seen]]]:
        with provider(behaviour) as url:

            def seen() -> Seen:
                ledger = fetch(url, "ledger")
                return Seen([entry["begun"] for entry in ledger], [not entry["answered"] for entry in ledger])

            yield url, seen

    return serve


def fixed_minutes_s(rows: int, per_minute: int) -> float:
    """Return the least time for rows with a limit that is refilled at each full minute, if it begins now."""
    left = 60 - time.time() % 60
    return left + 60 * ((rows - 1) // per_minute - 1) if rows > per_minute else 0.0


CASES = [
    Case("litellm", 130, litellm(60, by_key=False), lambda: fixed_minutes_s(130, 60), refused=0.03, of_all=True),
    Case("litellm key", 130, litellm(60, by_key=True), lambda: 120.0, refused=0.03, of_all=True),
    Case("nginx 503", 300, nginx("limit_req zone=requests burst=2;"), lambda: 297 / 5),
    Case("nginx 429", 300, nginx("limit_req zone=requests burst=2; limit_req_status 429;"), lambda: 297 / 5),
    Case("nginx nodelay", 300, nginx("limit_req zone=requests burst=2 nodelay;"), lambda: 297 / 5),
    Case("nginx no burst", 300, nginx("limit_req zone=requests;"), lambda: 299 / 5, used=0.9),
    Case("nginx conn 503", 240, nginx("limit_conn in_flight 8;", "1-2"), lambda: 240 * 1.5 / 8, used=0.9),
    Case("nginx conn 429", 240, nginx("limit_conn in_flight 8; limit_conn_status 429;", "1-2"), lambda: 240 * 1.5 / 8, used=0.9),
    Case("nginx max_conns", 120, nginx("", "1-2", "max_conns=4"), lambda: 120 * 1.5 / 4, used=0.9),
    Case("haproxy queue", 40, haproxy("1s", "1-2"), lambda: 40 * 1.5 / 4, used=0.5, requests=60),
    Case("haproxy full", 40, haproxy("30s", "1-2", "http-request deny deny_status 503 if { be_conn gt 8 }"), lambda: 40 * 1.5 / 4, used=0.5, requests=60),
    Case("strict spacing", 300, rehearsal("latency=0.1-0.3&rpm=300&burst_s=0&rate_headers=false"), lambda: 299 / 5, used=0.9),
    Case("strict told", 300, rehearsal("latency=0.1-0.3&rpm=300&burst_s=0&rate_headers=false"), lambda: 299 / 5, 0.98, options=("--rpm", "300")),
    Case("fixed minutes", 130, rehearsal("latency=0.1-0.3&limit=60:requests:60:fixed&refuse_with=429_bare&rate_headers=false"), lambda: 120.0),
    Case("fixed headers", 130, rehearsal("latency=0.1-0.3&limit=60:requests:60:fixed&refuse_with=429_bare&reset_headers=false"), lambda: 120.0, refused=0.03, of_all=True),
    Case("fixed told", 130, rehearsal("latency=0.1-0.3&limit=60:requests:60:fixed&refuse_with=429_bare&rate_headers=false"), lambda: 120.0, refused=0.03, of_all=True, options=("--rpm", "60")),
    Case("sliding minutes", 130, rehearsal("latency=0.1-0.3&limit=60:requests:60:sliding&refuse_with=429_bare&rate_headers=false"), lambda: 120.0),
    Case("short 503", 300, rehearsal("latency=0.1-0.3&limit=5:requests:1:sliding&refuse_with=503_page"), lambda: 59.0, used=0.9),
    Case("reserved", 600, rehearsal("latency=0.1-0.3&tpm=60000&rate_headers=false"), lambda: (600 * 212 - 60_000) / 1000, options=("--set", "params.max_tokens=200")),
    Case("input tokens", 600, rehearsal("latency=0.1-0.3&words=60&limit=3000:input_tokens:60&rate_headers=false"), lambda: (600 * 12 - 3000) / 50),
    Case("two at once", 600, rehearsal("latency=0.1-0.3&limit=10:requests:1:sliding,300:requests:60:fixed&rate_headers=false"), lambda: 90.0, used=0.9),
    Case("strays", 300, rehearsal("latency=1-2&concurrency=8&429_bare=0.02&rate_headers=false"), lambda: 300 * 1.5 / 8, used=0.9),
    Case("llmock told", 1000, llmock, least_for_llmock_s, 0.95, 0.01, of_all=True, requests=1010, options=("--rpm", str(RPM), "--tpm", str(TPM)), is_llmock=True),
    Case("llmock", 1000, llmock, least_for_llmock_s, 0.95, 0.03, of_all=True, requests=1030, is_llmock=True),
]  # fmt: skip


# Runs


@dataclasses.dataclass(frozen=True)
class Figures:
    """What one run made of a case."""

    answered: int
    failed: int
    passed_s: float
    least_s: float
    requests: int
    refused: float
    late: float


def run(case: Case) -> Figures:
    """Run a case once."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with case.serve(root) as (url, seen):
            options = case.options
            if case.is_llmock:
                write_prompts(root / "rows.jsonl")
                options = (*options, "--set", f"params.max_tokens={MAX_TOKENS}")
            else:
                write_rows(root / "rows.jsonl", case.rows)
            call = command(url, root / "rows.jsonl", root / "out", "--deadline", str(LONGEST_S), *options)
            least, began = case.least_s(), time.perf_counter()
            subprocess.run(call, capture_output=True, check=False)
            passed = time.perf_counter() - began
            found = seen()
        data = root / "out" / "data"
        statuses = pq.read_table(data, columns=["status"])["status"].to_pylist() if data.exists() else []
    return Figures(
        answered=statuses.count("ok"),
        failed=len(statuses) - statuses.count("ok"),
        passed_s=passed,
        least_s=least,
        requests=len(found.began),
        refused=found.refused_share(),
        late=found.refused_share(LATE_S),
    )


def line(case: Case, rounds: list[Figures]) -> str:
    """Return the line that shows the medians of a case beside its bounds."""

    def median(name: str) -> float:
        return statistics.median(getattr(figures, name) for figures in rounds)

    used = statistics.median(figures.least_s / figures.passed_s for figures in rounds)
    refused = median("refused" if case.of_all else "late")
    answered, failed, requests = (round(median(name)) for name in ("answered", "failed", "requests"))
    bounds = [
        (f"{answered}/{case.rows} answered, {failed} failed", answered == case.rows and not failed),
        (f"{median('passed_s'):.1f} of {median('least_s'):.1f} s: {used:.2f} (≥ {case.used:.2f})", used >= case.used),
        (f"{requests} requests" + (f" (≤ {case.requests})" if case.requests else ""), requests <= (case.requests or requests)),
        (f"refused {median('refused'):.1%}, late {median('late'):.1%} ({'all' if case.of_all else 'late'} ≤ {case.refused:.0%})", refused <= case.refused),
    ]  # fmt: skip
    return f"{case.name:16} " + "; ".join(text + ("" if kept else " !") for text, kept in bounds)


def show(case: Case, rounds: int) -> None:
    """Run a case so often, and print its line."""
    try:
        print(line(case, [run(case) for _ in range(rounds)]), flush=True)
    except LookupError as missing:
        print(f"{case.name:16} skipped: {missing}", flush=True)


def main() -> None:
    """Run the cases and print their lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only the cases whose names contain this text")
    parser.add_argument("--rounds", type=int, default=1, help="how many runs of each case the median is taken of")
    parser.add_argument(
        "--litellm", default=os.environ.get("LITELLM", "litellm"), help="an environment with LiteLLM's proxy"
    )
    args = parser.parse_args()
    os.environ["LITELLM"] = args.litellm
    cases = [case for case in CASES if args.only in case.name]
    if not cases:
        sys.exit(f"there is no such case; there are: {', '.join(case.name for case in CASES)}")
    for case in cases:
        show(case, args.rounds)


if __name__ == "__main__":
    main()
