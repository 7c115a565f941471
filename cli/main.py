"""The entry point: the sub-commands, and the printing of all errors."""

import atexit
import gc
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, NoReturn, TextIO

import typer
from typer.exceptions import TyperException

from tokenlens.errors import OptionError, TokenlensError, TokenlensWarning
from tokenlens.storage.interruption import end_code, end_quietly, orderly_end, pipe_was_closed
from tokenlens.storage.invocation import running
from tokenlens.wording.printable import one_line, printable

from . import (
    bench,
    benchmarks,
    cite,
    cost,
    demo,
    env,
    figures,
    information,
    knock_out,
    methods,
    models,
    profile,
    report,
    run,
    select_layers,
    setup,
    share,
    show,
    tune,
)
from .command import Commands
from .console import Mode, mode, print_object
from .output import collecting, current

app = Commands(
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
    figures,
    cite,
    knock_out,
    information,
    tune,
    show,
    share,
    demo,
    models,
    setup,
    methods,
    bench,
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


def _fail(kind: str, message: str, code: int) -> NoReturn:
    print(one_line(f"tokenlens: {message}"), file=sys.stderr)
    print_object((kind, one_line(message)))
    raise SystemExit(code)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show the library's own warnings in one line, others as Python writes them."""
    if issubclass(category, TokenlensWarning):
        current().warnings.append(one_line(str(message)))
        print(one_line(f"Warning: {message}."), file=sys.stderr)
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
        print(printable(text, lines=True), end="", file=file or sys.stderr)


def _run(arguments: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("once", TokenlensWarning)
        warnings.showwarning = _show_warning
        with running(["tokenlens", *arguments]):
            code = app(args=arguments or ["--help"], standalone_mode=False)
    raise SystemExit((code or 0) if arguments else 2)


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse empty values, which would otherwise mean the default."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        if equals and option.startswith("--") and not value.strip():
            before, argument = option, value
        if not argument.strip():
            what = before if before.startswith("-") else "an argument"
            raise OptionError(f"{what}: got an empty value; give one, or leave it out")


def _usage(error: TyperException) -> str:
    """The error of the options, in one line."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "tokenlens"
    message = error.format_message().rstrip(". ")
    return f"{message}; `{command} --help` says what is expected"


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 2 an error the user can correct, 1 a defect, 130 interrupted,
    129 hung up, 143 terminated, 141 the reader of the output has ended.
    """
    atexit.register(gc.freeze)  # Python's end looks through all modules for garbage, a second long
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
    vars(mode).update(vars(Mode(json=_wants_json(arguments))))
    with collecting():
        try:
            _refuse_empty(arguments)
            _run([argument for argument in arguments if argument != "--debug"])
        except BaseException as error:
            told = end_code(error) or isinstance(error, TyperException)
            ending = _ending(error)
            if ending is None or (debug and not told):
                raise
            _fail(*ending)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether errors are printed as JSON even where the command line is not understood."""
    return "--json" in arguments or os.environ.get("TOKENLENS_JSON", "") in ("1", "true")


def _ending(error: BaseException) -> tuple[str, str, int] | None:
    """Type, message and exit code of the error that ends a command; None to raise it again."""
    kind = type(error).__name__
    if code := end_code(error):
        told = "interrupted; what was computed is kept, the same command continues"
        return "Interrupted", told, code
    if isinstance(error, TyperException):
        return OptionError.__name__, _usage(error), 2
    if isinstance(error, TokenlensError):
        return kind, str(error), 2
    if isinstance(error, OSError):
        if pipe_was_closed(error):
            return None
        what = f"{error.filename or 'the file system'}: {error.strerror or error}"
        return kind, f"{what}; mend that, and run the same command again", 2
    if isinstance(error, Exception):
        return kind, f"unexpected {kind}: {error}; run it again with --debug to see where", 1
    return None
