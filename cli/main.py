"""The entry point: the sub-commands, and the one place where errors meet the user."""

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Annotated, NoReturn

import typer

from tokenlens.errors import TokenlensError, TokenlensWarning
from tokenlens.interruption import ENDED, end_quietly, orderly_end, pipe_was_closed

from . import (
    benchmarks,
    cost,
    demo,
    env,
    knock_out,
    methods,
    models,
    profile,
    report,
    run,
    select_layers,
)

app = typer.Typer(
    name="tokenlens",
    help="Measure which visual tokens each layer of a vision-language model cares about, choose "
    "where to prune, run the pruned model and show it.",
    epilog="Start with `tokenlens demo`, or with your own model: `tokenlens profile --model "
    "qwen2-vl`, `tokenlens select-layers`, `tokenlens run --schedule out.json`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    profile,
    select_layers,
    cost,
    run,
    report,
    knock_out,
    demo,
    models,
    methods,
    benchmarks,
    env,
)
for command in COMMANDS:
    command.register(app)


def _print_version(value: bool) -> None:
    if value:
        from tokenlens import __version__

        print(f"tokenlens {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="On an error, show the traceback as well.")
    ] = False,
) -> None:
    pass


def _fail(message: str, code: int) -> NoReturn:
    print(f"tokenlens: {message}", file=sys.stderr)
    raise SystemExit(code)


def _show_warning(
    plain: Callable[..., None], message: Warning, category: type[Warning], *rest: object
) -> None:
    """Show the library's own warnings in one line, others as ever."""
    if issubclass(category, TokenlensWarning):
        print(f"Warning: {message}.", file=sys.stderr)
    else:
        plain(message, category, *rest)


def _run(arguments: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("once", TokenlensWarning)
        warnings.showwarning = partial(_show_warning, warnings.showwarning)
        app(args=arguments)


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 2 mendable error, 1 a defect, 130 interrupted, 129 hung up, 143 terminated,
    141 the reader of the output went away.
    """
    with orderly_end():
        try:
            _guarded()
            sys.stdout.flush()
        except (SystemExit, OSError) as error:
            if pipe_was_closed(error):
                end_quietly()
            raise


def _guarded() -> None:
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        _run([argument for argument in arguments if argument != "--debug"])
    except TokenlensError as error:
        if debug:
            raise
        _fail(str(error), 2)
    except SystemExit as end:
        if isinstance(end.code, int) and end.code in ENDED:
            _fail("interrupted; what was computed is kept, the same command continues", end.code)
        raise
    except OSError as error:
        if debug or pipe_was_closed(error):
            raise
        _fail(f"{error.filename or 'the file system'}: {error.strerror or error}", 2)
    except Exception as error:
        if debug:
            raise
        name = type(error).__name__
        _fail(f"unexpected {name}: {error}; run it again with --debug to see where", 1)
