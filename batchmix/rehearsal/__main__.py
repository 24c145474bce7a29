"""Start a rehearsal provider: `python -m batchmix.rehearsal 'latency=0.05-0.2&seed=1' [--port N]`.

It prints its address once it is listening.
"""

from __future__ import annotations

import argparse

from batchmix.rehearsal import Behaviour, run_server


def main() -> None:
    """Serve until SIGINT or SIGTERM. Invalid options end the process with a message and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m batchmix.rehearsal", description=__doc__)
    parser.add_argument("behaviour", nargs="?", default="", help="such as latency=0.05-0.2&rpm=600")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()
    try:
        behaviour = Behaviour.parse(arguments.behaviour)
    except ValueError as error:
        parser.error(str(error))
    run_server(behaviour, arguments.host, arguments.port, lambda url: print(url, flush=True))  # noqa: T201


if __name__ == "__main__":
    main()
