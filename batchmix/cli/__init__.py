"""The command line: parse, build a job, call one function, return an exit code.

The only room that prints. Commands are loaded when they are called, so that `batchmix --help` is there at once.
"""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from types import FrameType

import click

from batchmix import __version__
from batchmix.cli.output import complain, shield
from batchmix.errors import BatchmixError, Interrupted

_COMMANDS = {
    "run": "Run a job, or go on with it.",
    "plan": "Say what a run would send; sends nothing.",
    "status": "Show how a run stands, also while it runs.",
    "export": "Write a run's results into one file.",
    "models": "List the gateway's models and their prices.",
    "schedule": "Run jobs by themselves, at night.",
    "eval": "Score the answers of a run, and show the metrics.",
    "diff": "Compare two evaluated runs.",
    "report": "Write a run's report, one HTML page.",
    "rehearse": "Start a stand-in provider on this machine.",
}


class _Commands(click.Group):
    """Knows its commands by name and loads one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        from batchmix.memory import spare_memory  # not for --help, which is there at once

        spare_memory()
        command: click.Command = importlib.import_module(f"batchmix.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="batchmix")
def cli() -> None:
    """Turn a dataset of prompts into a dataset of answers.

    JSONL or Parquet in, Parquet out, through AiHubMix or any OpenAI-compatible API. Every answer is paid for once: a
    run that was stopped or killed goes on when the same command is given again.

    \b
    Example:
      batchmix run jobs/quickstart.toml
    """


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(_main())


def _main() -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup wants it to live on
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "batchmix"
        complain(f"{error.format_message()}\nTry {where} --help.")
        return 2
    except BatchmixError as error:
        complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        sys.stderr.close()
        return 128 + signal.SIGPIPE
    except Exception:  # noqa: BLE001 - the last resort, so that a traceback can't show a secret
        complain(f"this is a fault of batchmix; what was answered is kept\n{shield(traceback.format_exc())}")
        return 3
    return code if isinstance(code, int) else 0


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(f"interrupted by {signal.Signals(number).name}", number)
