"""The command line: one verb, one file; this one gathers them and answers for their errors.

A verb's module imports nothing heavy until it runs, so `sfumato --help` does not load torch.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import typer

from .. import __version__
from ..core.errors import OutOfMemoryError, SfumatoError
from .stopping import Stoppable
from .verbs import (
    compare,
    curve,
    demo,
    distill,
    doctor,
    evaluate,
    interpolate,
    likelihood,
    recipes,
    reconstruct,
    rollout,
    sample,
    train,
    traverse,
)

# the parser's own errors; some versions of typer carry a parser of their own, so ask for the class
ParseError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="sfumato",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train, sample, measure and explore latent-variable generative models on your own data.",
    epilog="First steps: [bold]sfumato demo[/bold], then [bold]sfumato train diffusevae FOLDER[/bold].",
)
for verb in (
    demo,
    train,
    distill,
    sample,
    reconstruct,
    interpolate,
    traverse,
    rollout,
    evaluate,
    likelihood,
    curve,
    compare,
    doctor,
    recipes,
):
    app.command(verb.NAME)(verb.command)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"sfumato {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Train, sample, measure and explore latent-variable generative models on your own data."""


def run(arguments: list[str]) -> int:
    """Run one verb and return its exit code; every error becomes one message."""
    with Stoppable() as stop:
        return _run(arguments, stop)


def _run(arguments: list[str], stop: Stoppable) -> int:
    debug, as_json = "--debug" in arguments, "--json" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        code = app(arguments or ["--help"], prog_name="sfumato", standalone_mode=False)
        if code == 130:  # some versions of typer answer for Ctrl-C themselves, without a word
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except SfumatoError as error:
        if debug:
            traceback.print_exc()
        return _answer(error.what, error.where, error.remedy, stop.code(error), as_json)
    except ParseError as error:
        return _answer(error.format_message(), None, _usage(error), 2, as_json)
    except (typer.Abort, KeyboardInterrupt):
        told = stop.error(next((a for a in arguments if not a.startswith("-")), ""))
        return _answer(told.what, told.where, told.remedy, told.code, as_json)
    except BrokenPipeError:
        return 0
    except Exception as error:
        if _out_of_memory(error):
            if debug:
                traceback.print_exc()
            remedy = "Ask for fewer or smaller images (-n, --size), or close other programs."
            return _answer("memory ran out", None, remedy, OutOfMemoryError.code, as_json)
        return _bug(as_json)


def _out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on any device; torch is asked only where it is loaded already."""
    if isinstance(error, MemoryError) or "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from ..training.stagerun import out_of_memory

    return out_of_memory(error)


def _usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f"See: {context.command_path} --help" if context is not None else "See: sfumato --help"


def _answer(what: str, where: object, remedy: str, code: int, as_json: bool) -> int:
    if as_json:
        typer.echo(json.dumps({"error": what, "where": str(where or ""), "remedy": remedy, "code": code}))
    else:
        place = f" ({where})" if where is not None else ""
        typer.echo(f"Error: {what}{place}", err=True)
        if remedy:
            typer.echo(f"  {remedy}", err=True)
    return code


def _bug(as_json: bool) -> int:
    """Code 1 alone shows a traceback, and keeps it in a file to send."""
    text = f"sfumato {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n{traceback.format_exc()}"
    with tempfile.NamedTemporaryFile("w", prefix="sfumato-", suffix=".txt", delete=False) as file:
        file.write(text)
    traceback.print_exc()
    return _answer(
        "this is a bug in Sfumato, not in your data",
        Path(file.name),
        "Please report it with that file.",
        1,
        as_json,
    )
