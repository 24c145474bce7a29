"""The command line. Each command is a module here: it parses its options, calls the engine, and returns an exit code.

Beside it, only `progress` writes to the terminal. A command's module is imported when the command is called, so that
`batchmix --help` is fast.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import signal
import sys
import traceback
from pathlib import Path

import click

from batchmix import __version__
from batchmix.cli.output import echo_error, escape_unencodable, output_exit_code, printable
from batchmix.engine import signals
from batchmix.errors import BatchmixError, disk_error

_COMMANDS = {
    "run": "Run a job, or resume it.",
    "resume": "Go on with a run from its folder alone.",
    "plan": "Show what a run would send; sends nothing.",
    "status": "Show the state of a run, also while it runs.",
    "export": "Write a run's results into one file.",
    "models": "List the gateway's models and their prices.",
    "schedule": "Run jobs on their schedules.",
    "eval": "Score the answers of a run and show the metrics.",
    "diff": "Compare two evaluated runs.",
    "calibrate": "Compare the scores of a run with labels of people.",
    "baseline": "Pin the run that later ones are compared with.",
    "report": "Write a run's report, one HTML page.",
    "rehearse": "Start a rehearsal provider on this machine.",
}
_ALIASES = {
    "continue": "resume", "restart": "resume", "start": "run", "validate": "plan", "check": "plan", "estimate": "plan",
    "evaluate": "eval", "compare": "diff", "list": "status", "help": "--help", "version": "--version",
}  # fmt: skip
"""Names that users may know from other programs, with the command to suggest for each."""
_INPUTS = frozenset({"input", "file", "data", "dataset", "job", "config"})
"""Options that users may try for the input or the job file, which is an argument."""
_LIKE_A_KEY = re.compile(r"\bsk-[\w-]{8,}")
_HEAP = {-8: 1, -3: 16 << 20, -1: 32 << 20}
"""Options of `mallopt`, from malloc.h of glibc: the most heaps (`M_ARENA_MAX`), the size in bytes from which
memory comes from the system and goes back to it each time (`M_MMAP_THRESHOLD`), and the size of free memory at the
heap's end from which it goes back (`M_TRIM_THRESHOLD`)."""


class _Commands(click.Group):
    """The group of all commands. It imports a command when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        _spare_memory()
        command: click.Command = importlib.import_module(f"batchmix.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in _COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"there is no command {name!r}{_suggestion(name)}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="batchmix")
def cli() -> None:
    """Turn a dataset of prompts into a dataset of answers.

    JSONL, CSV or Parquet in, Parquet out, through AiHubMix or any OpenAI-compatible API. Every answer is paid for once:
    the same command resumes a run that was stopped or killed.

    \b
    Example:
      batchmix run jobs/quickstart.toml
    """


def main() -> None:
    """Run the command line and exit with its code."""
    with signals.raising_signals():
        escape_unencodable()
        try:
            code = _main()
        except signals.SignalExit as error:  # a signal that arrived while the outcome was printed
            code = error.as_interrupted().exit_code
        sys.exit(code or output_exit_code())


def _main() -> int:
    try:
        code = cli.main(sys.argv[1:] or ["--help"], standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.NoSuchOption as error:
        echo_error(_unknown_option(error))
        return 2
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "batchmix"
        echo_error(f"{_without_keys(error.format_message())}\nTry {where} --help.")
        return 2
    except signals.SignalExit as error:
        echo_error(str(error.as_interrupted()))
        return error.as_interrupted().exit_code
    except BatchmixError as error:
        echo_error(str(error))
        return error.exit_code
    except click.Abort:
        echo_error("interrupted")
        return 128 + signal.SIGINT
    except OSError as error:
        stopped = disk_error(error)
        echo_error(str(stopped))
        return stopped.exit_code
    except Exception:  # noqa: BLE001 - the last resort, so that a traceback can't show a secret
        echo_error(f"this is a bug in batchmix; all answers so far are kept\n{printable(traceback.format_exc())}")
        return 3
    return code if isinstance(code, int) else 0


def _without_keys(message: str) -> str:
    """Mask API keys and URL credentials in a message of click, which may quote a key that is in the wrong place."""
    from batchmix.job import masked_url
    from batchmix.redact import MASK

    return _LIKE_A_KEY.sub(MASK, masked_url(message))


def _suggestion(name: str) -> str:
    """Return a suggestion for an unknown command. For a file name, it is the command `run` with that file."""
    from batchmix.job import closest

    near = _ALIASES.get(name.lower()) or closest(name.lower(), _COMMANDS)
    if near:
        return f"; did you mean batchmix {near}?"
    if Path(name).suffix or Path(name).exists():
        return f"; did you mean batchmix run {name}?"
    return f"; the commands are {', '.join(_COMMANDS)}"


def _unknown_option(error: click.NoSuchOption) -> str:
    """Return the message for an unknown option.

    If it is an option of the command that follows, the message says to put it after the command.
    """
    ctx = error.ctx
    if ctx and ctx.command is cli:
        called = [word for word in sys.argv[1:] if word in _COMMANDS]
        for name in called[:1] or _COMMANDS:
            command = cli.get_command(ctx, name)
            if command and any(error.option_name in option.opts for option in command.params):
                return f"{error.option_name} goes after the command: batchmix {name} … {error.option_name} …"
    where = ctx.command_path if ctx else "batchmix"
    return f"{_as_setting(error) or _without_keys(error.format_message())}\nTry {where} --help."


def _as_setting(error: click.NoSuchOption) -> str:
    """Return the message for an unknown option that is named like a setting of the job. Empty for any other."""
    from batchmix.job import settings_of

    if not error.ctx or all("--set" not in option.opts for option in error.ctx.command.params):
        return ""
    name = error.option_name.lstrip("-").replace("-", "_")
    if name in _INPUTS:
        return f"no such option: {error.option_name}; give the input or job without one: batchmix run rows.jsonl"
    settings = " or ".join(f"--set {setting}=…" for setting in settings_of(name))
    return f"no such option: {error.option_name}; give the setting as {settings}" if settings else ""


def _spare_memory() -> None:
    """Save memory: let all threads and pyarrow share one heap. Call it before large libraries are imported.

    With 2,000 requests in flight, a run then takes 140 MB. Separate heaps of glibc for threads, and jemalloc, which
    pyarrow brings along, would take 20 to 70 MB more. The heap keeps the memory of long prompts and answers for the
    next ones: new pages from the system would take a seventh of a run's time.
    """
    import ctypes  # not for --help

    from batchmix.formats.pyarrow_setup import claim_process

    claim_process()
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no such setting
        for option, value in _HEAP.items():
            ctypes.CDLL(None).mallopt(option, value)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
