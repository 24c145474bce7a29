"""The command line: parse, build a job, call one function, return an exit code.

The only room that prints. Commands are loaded when they are called, so that `batchmix --help` is there at once.
"""

from __future__ import annotations

import importlib
import re
import signal
import sys
import traceback
from pathlib import Path

import click

from batchmix import __version__
from batchmix.cli.output import complain, lost_output, make_total, shield
from batchmix.engine import signals
from batchmix.errors import BatchmixError, disk_error

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
_OTHERWISE = {
    "resume": "run", "continue": "run", "start": "run", "validate": "plan", "check": "plan", "estimate": "plan",
    "evaluate": "eval", "compare": "diff", "list": "status", "help": "--help", "version": "--version",
}  # fmt: skip
"""What others call a command."""
_INPUTS = frozenset({"input", "file", "data", "dataset", "job", "config"})
_LIKE_A_KEY = re.compile(r"\bsk-[\w-]{8,}")


class _Commands(click.Group):
    """Knows its commands by name and loads one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        from batchmix.cli.memory import spare_memory  # not for --help, which is there at once

        spare_memory()
        command: click.Command = importlib.import_module(f"batchmix.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in _COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"there is no command {name!r}{_meant(name)}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="batchmix")
def cli() -> None:
    """Turn a dataset of prompts into a dataset of answers.

    JSONL, CSV or Parquet in, Parquet out, through AiHubMix or any OpenAI-compatible API. Every answer is paid for once:
    a run that was stopped or killed goes on when the same command is given again.

    \b
    Example:
      batchmix run jobs/quickstart.toml
    """


def main() -> None:
    """Run the command line and exit with its code."""
    with signals.raising_signals():
        make_total()
        try:
            code = _main()
        except signals.SignalExit as error:  # while it was said how it ended
            code = error.as_interrupted().exit_code
        sys.exit(code or lost_output())


def _main() -> int:
    try:
        code = cli.main(sys.argv[1:] or ["--help"], standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.NoSuchOption as error:
        complain(_unknown_option(error))
        return 2
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "batchmix"
        complain(f"{_shown(error.format_message())}\nTry {where} --help.")
        return 2
    except signals.SignalExit as error:
        complain(str(error.as_interrupted()))
        return error.as_interrupted().exit_code
    except BatchmixError as error:
        complain(str(error))
        return error.exit_code
    except click.Abort:
        complain("interrupted")
        return 128 + signal.SIGINT
    except OSError as error:
        found = disk_error(error)
        complain(str(found))
        return found.exit_code
    except Exception:  # noqa: BLE001 - the last resort, so that a traceback can't show a secret
        complain(f"this is a fault of batchmix; what was answered is kept\n{shield(traceback.format_exc())}")
        return 3
    return code if isinstance(code, int) else 0


def _shown(said: str) -> str:
    """Return what click says of a call without what may be a key in it: people paste one into the wrong place."""
    from batchmix.job import masked_url
    from batchmix.redact import MASK

    return _LIKE_A_KEY.sub(MASK, masked_url(said))


def _meant(name: str) -> str:
    """Return which command may be meant: people leave out `run`, too."""
    from batchmix.job import closest

    near = _OTHERWISE.get(name.lower()) or closest(name.lower(), _COMMANDS)
    if near:
        return f"; did you mean batchmix {near}?"
    if Path(name).suffix or Path(name).exists():
        return f"; did you mean batchmix run {name}?"
    return f"; there are {', '.join(_COMMANDS)}"


def _unknown_option(error: click.NoSuchOption) -> str:
    """Return what is wrong with an option, which may only stand in the wrong place."""
    ctx = error.ctx
    if ctx and ctx.command is cli:
        called = [word for word in sys.argv[1:] if word in _COMMANDS]
        for name in called[:1] or _COMMANDS:
            command = cli.get_command(ctx, name)
            if command and any(error.option_name in option.opts for option in command.params):
                return f"{error.option_name} stands after the command: batchmix {name} … {error.option_name} …"
    where = ctx.command_path if ctx else "batchmix"
    return f"{_as_setting(error) or _shown(error.format_message())}\nTry {where} --help."


def _as_setting(error: click.NoSuchOption) -> str:
    """Return how a setting is given that somebody takes for an option, or empty text."""
    from batchmix.job import settings_of

    if not error.ctx or all("--set" not in option.opts for option in error.ctx.command.params):
        return ""
    name = error.option_name.lstrip("-").replace("-", "_")
    if name in _INPUTS:
        return f"no such option: {error.option_name}; the input, or the job, stands by itself: batchmix run rows.jsonl"
    settings = " or ".join(f"--set {setting}=…" for setting in settings_of(name))
    return f"no such option: {error.option_name}; the setting is given as {settings}" if settings else ""
