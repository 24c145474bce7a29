"""`batchmix rehearse`."""

from __future__ import annotations

import click

from batchmix.cli.output import say
from batchmix.errors import JobError


@click.command("rehearse")
@click.argument("behaviour", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8787, show_default=True, help="The port to listen on; 0 takes a free one.")
def command(behaviour: tuple[str, ...], host: str, port: int) -> int:
    """Start a stand-in provider on this machine, which behaves as it is told.

    It answers like AiHubMix, costs nothing, and can be slow, limited or broken. It runs until it is interrupted.

    \b
    Example:
      batchmix rehearse latency=0.1-0.5 rpm=600 500=0.02
      batchmix run prompts.jsonl --model any --base-url http://127.0.0.1:8787/v1
    """
    from batchmix.rehearsal import Behaviour, run_server

    try:
        behave = Behaviour.parse("&".join(behaviour))
    except ValueError as error:
        raise JobError(str(error)) from error
    run_server(behave, host, port, lambda url: say(f"listening on {url}"))
    return 0
