"""The class of all commands: the options that each of them has, and where values come from."""

import logging
import os
import sys
import time
import warnings
from contextlib import ExitStack, redirect_stdout
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption
from typer.exceptions import TyperException

from tokenlens.errors import OptionError, TokenlensWarning
from tokenlens.progress import hidden_progress
from tokenlens.storage.invocation import current_command, running

from .console import announce, duration, mode, print_object
from .output import current
from .settings import OUTPUT, Settings, option_words, unknown_variables, variables

_LOUD = ("torchao", "torch.utils._pytree")
"""Loggers that tell, whenever transformers is imported, of parts of torchao that stay unused."""
_SOURCES = {"ENVIRONMENT": "the environment", "DEFAULT_MAP": "the settings file"}


def _set_mode(param: typer.CallbackParam, value: bool) -> None:
    setattr(mode, str(param.name), value)


def _flag(name: str, text: str) -> Any:
    """An option that changes how a command prints, and that its function does not see."""
    return typer.Option(
        name,
        help=text,
        rich_help_panel="Output",
        is_eager=True,
        expose_value=False,
        callback=_set_mode,
    )


def _every_command(
    json: Annotated[bool, _flag("--json", "Print one JSON object and nothing else.")] = False,
    quiet: Annotated[bool, _flag("--quiet", "No progress, no next command.")] = False,
    verbose: Annotated[
        bool, _flag("--verbose", "Say which settings hold, what libraries say, and the time taken.")
    ] = False,
) -> None:
    """Declare the options that every command has."""


def _added_options() -> list[Any]:
    app = typer.Typer(add_completion=False)
    app.command()(_every_command)
    return list(typer.main.get_command(app).params)


class Command(TyperCommand):
    """A command whose options also come from the environment and from a settings file."""

    def __init__(self, name: str | None, *, params: list[Any] | None = None, **how: Any) -> None:
        super().__init__(name, params=[*(params or []), *_added_options()], **how)
        for option in self.options:
            option.envvar = list(variables(str(name), option.name))
            option.show_envvar = False  # docs/scripts.md says how they are named

    @property
    def options(self) -> list[TyperOption]:
        """Its options, without arguments."""
        return [one for one in self.params if isinstance(one, TyperOption)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line over the values of the environment and the settings file."""
        current().command = self.name
        if "--help" not in args:
            commands = getattr(ctx.find_root().command, "commands", {str(self.name): self})
            known = {name: command.options for name, command in commands.items()}
            settings = Settings.find()
            settings.check(known)
            ctx.default_map = settings.values_of(str(self.name), self.options)
            for sentence in unknown_variables(known):
                warnings.warn(sentence, TokenlensWarning, stacklevel=2)
        try:
            return super().parse_args(ctx, args)
        except TyperException as error:
            if variable := _variable_of(error, ctx):
                message = error.format_message().rstrip(". ")
                raise OptionError(f"{variable}: {message}; set another value there") from error
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and print its object where JSON is asked for."""
        if mode.quiet and mode.verbose:
            raise OptionError("--quiet and --verbose exclude each other; leave one out")
        sources = {one.name: ctx.get_parameter_source(one.name).name for one in self.options}
        mode.typed = frozenset(name for name, source in sources.items() if source == "COMMANDLINE")
        words: list[str] = []
        for option in self.options:
            source = _SOURCES.get(sources[option.name])
            if source and option.name not in OUTPUT:
                own = option_words(option, ctx.params[option.name])
                words += own
                if mode.verbose:
                    announce(f"Setting: {' '.join(own)}, from {source}")
        for name in () if mode.verbose else _LOUD:
            logging.getLogger(name).setLevel(logging.ERROR)
        began = time.monotonic()
        with ExitStack() as stack:
            stack.enter_context(running([*(current_command() or ()), *words]))
            if mode.json:
                stack.enter_context(redirect_stdout(sys.stderr))
            if mode.quiet:
                stack.enter_context(hidden_progress())
            code = super().invoke(ctx)
        if mode.verbose:
            announce(f"Took {duration(time.monotonic() - began)}")
        print_object()
        return code


class Commands(typer.Typer):
    """An app whose commands are all of the class `Command`."""

    def command(self, name: str | None = None, **how: Any) -> Any:
        """Register a command, as `typer.Typer.command` does."""
        return super().command(name, cls=Command, **how)


def _variable_of(error: TyperException, ctx: Any) -> str | None:
    """The environment variable whose value is wrong; None where the value has another source."""
    param: Any = getattr(error, "param", None)
    source = param and ctx.get_parameter_source(param.name)
    if source is None or source.name != "ENVIRONMENT":
        return None
    variables_of: list[str] = param.envvar
    return next(name for name in variables_of if os.environ.get(name))
