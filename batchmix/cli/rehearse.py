"""The command `batchmix rehearse`."""

from __future__ import annotations

import click

from batchmix.cli.output import echo
from batchmix.errors import JobError


class _Rehearse(click.Command):
    """A command that lists all kinds of replies at the end of its help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each kind of reply with its description."""
        from batchmix.rehearsal.reply_table import by_group

        for group, kinds in by_group().items():
            with formatter.section(group.value.replace("`", "")):
                formatter.write_dl([(name, doc.replace("`", "")) for name, doc in kinds.items()])


@click.command("rehearse", cls=_Rehearse)
@click.argument("behaviour", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--fault", "faults", multiple=True, metavar="KIND=SHARE", help="Reply to a share of the requests with a kind."
)
@click.option(
    "--outage",
    "outages",
    multiple=True,
    metavar="START_S:LENGTH_S[:HOW]",
    help="Fail for a time: with 503, with a kind such as hang, or by refusing connections (refused).",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8787, show_default=True, help="The port to listen on; 0 takes a free one.")
def command(behaviour: tuple[str, ...], faults: tuple[str, ...], outages: tuple[str, ...], host: str, port: int) -> int:
    """Start a rehearsal provider on this machine.

    It replies like AiHubMix, costs nothing, and can be made slow, rate-limited or faulty. It runs until it is
    interrupted. Its requests and replies are listed at /rehearsal/account, /rehearsal/bodies and /rehearsal/ledger.

    \b
    Example:
      batchmix rehearse latency=0.1-0.5 rpm=600 --fault 500=0.02 --outage 60:30
      batchmix run prompts.jsonl --model any --base-url http://127.0.0.1:8787/v1

    A prompt that contains [[rehearsal:KIND]] always gets that kind of reply; with [[rehearsal:KINDx2]], only for its
    first two attempts. KIND is one of the kinds listed below.
    """
    from batchmix.rehearsal import Behaviour, run_server

    settings = [*behaviour, *faults, *([f"outage={','.join(outages)}"] if outages else [])]
    try:
        behave = Behaviour.parse("&".join(settings))
    except ValueError as error:
        raise JobError(str(error)) from error
    run_server(behave, host, port, lambda url: echo(f"listening on {url}"))
    return 0
