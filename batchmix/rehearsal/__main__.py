"""`python -m batchmix.rehearsal 'latency=0.05-0.2&seed=1' [--port N]` prints its address once it listens."""

import argparse

from batchmix.rehearsal import Behaviour, run_server

parser = argparse.ArgumentParser(prog="python -m batchmix.rehearsal", description=__doc__)
parser.add_argument("behaviour", nargs="?", default="", help="such as latency=0.05-0.2&rpm=600")
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=0)
given = parser.parse_args()
run_server(Behaviour.parse(given.behaviour), given.host, given.port, lambda url: print(url, flush=True))  # noqa: T201
