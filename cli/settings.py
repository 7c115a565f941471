"""Values of options that are not on the command line: environment variables and a settings file."""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.core import TyperOption

from tokenlens.errors import OptionError
from tokenlens.wording.printable import shown
from tokenlens.wording.suggest import one_of

OUTPUT = ("json", "quiet", "verbose")
COMMON = (
    "model",
    "revision",
    "device",
    "dtype",
    "device_map",
    "quantize",
    "adapter",
    "data",
    "task",
    "limit",
    "batch_size",
    "max_new_tokens",
    "seed",
    "track",
    "workers",
    "ray",
    "worker_gpus",
    "worker_cpus",
    *OUTPUT,
)
"""Options that mean the same in all commands that have them: set once, they hold for all."""
PREFIX = "TOKENLENS_"
_OTHER_VARIABLES = ("TOKENLENS_CACHE",)
_OWN_FILE, _PROJECT_FILE = "tokenlens.toml", "pyproject.toml"
_LARGEST = 2**20
"""Bytes of a settings file."""
_KINDS = {bool: "true or false", int: "an integer", float: "a number"}

Commands = Mapping[str, Sequence[TyperOption]]
"""The options of every command, by its name."""


def variables(command: str, option: str) -> Iterator[str]:
    """The environment variables of an option, the one that is read first in front.

    >>> list(variables("select-layers", "limit")), list(variables("run", "out"))
    (['TOKENLENS_SELECT_LAYERS_LIMIT', 'TOKENLENS_LIMIT'], ['TOKENLENS_RUN_OUT'])
    """
    yield f"{PREFIX}{command}_{option}".upper().replace("-", "_")
    if option in COMMON:
        yield f"{PREFIX}{option}".upper()


def unknown_variables(commands: Commands) -> Iterator[str]:
    """A sentence on each variable of the environment that looks like ours and sets nothing."""
    known = {
        variable
        for command, options in commands.items()
        for option in options
        for variable in variables(command, option.name)
    }
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known and name not in _OTHER_VARIABLES:
            yield f"{shown(name)} sets no option, so it has no effect"


def option_words(option: TyperOption, value: Any) -> list[str]:
    """The words that give an option its value on a command line."""
    if value is None:
        return []
    if option.is_bool_flag:
        return (option.opts if value else option.secondary_opts)[:1]
    values = value if option.multiple else [value]
    return [word for one in values for word in (option.opts[0], str(one))]


@dataclass(frozen=True)
class Settings:
    """A settings file.

    Attributes:
        file: where it is; None where there is none.
        table: its content; of a pyproject.toml, the table `tool.tokenlens`.
    """

    file: Path | None = None
    table: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def find(cls, folder: Path | None = None) -> "Settings":
        """The nearest settings file upwards from a folder, by default the working directory.

        Raises `OptionError` for a file that cannot be read, and for two in one folder.
        """
        start = folder or Path.cwd()
        for place in (start, *start.parents):
            found = [one for one in (_own(place), _of_project(place)) if one is not None]
            if len(found) > 1:
                raise OptionError(
                    f"{place}: got {_OWN_FILE} and [tool.tokenlens] in {_PROJECT_FILE}, expected "
                    "one of them; leave one out"
                )
            if found:
                return found[0]
        return cls()

    def check(self, commands: Commands) -> None:
        """Raise `OptionError` for a key that is unknown, and for a value of the wrong type."""
        tables = {name.replace("-", "_"): name for name in commands}
        for key, value in _keys(self.table, self._where()):
            if key in tables:
                self._check_table(tables[key], value, commands[tables[key]])
                continue
            options = [one for own in commands.values() for one in own if one.name == key]
            if key not in COMMON:
                self._refuse(key, options, [*COMMON, *tables], commands)
            for option in options:
                _check_value(option, value, f"{self._where()}{key}")

    def _check_table(self, command: str, value: Any, options: Sequence[TyperOption]) -> None:
        where = f"{self._where()}{command}"
        if not isinstance(value, dict):
            raise OptionError(f"{where}: got {shown(value)}, expected a table of its options")
        known = {option.name: option for option in options}
        for key, own in _keys(value, f"{where}."):
            if key not in known:
                raise OptionError(
                    f"{where}: {shown(key)}: unknown key, expected {one_of(key, known)}"
                )
            _check_value(known[key], own, f"{where}.{key}")

    def _refuse(
        self, key: str, options: Sequence[TyperOption], known: Sequence[str], commands: Commands
    ) -> None:
        if options:
            owner = next(name for name, own in commands.items() if options[0] in own)
            raise OptionError(
                f"{self._where()}{key}: is no option that all commands share, expected it in the "
                f"table of a command, such as [{self._prefix()}{owner}]"
            )
        raise OptionError(
            f"{self._where()}{shown(key)}: unknown key, expected {one_of(key, known)}"
        )

    def values_of(self, command: str, options: Sequence[TyperOption]) -> dict[str, Any]:
        """The values for a command's options by name; its own table goes before the others."""
        top = dict(_keys(self.table, ""))
        own = dict(_keys(top.get(command.replace("-", "_"), {}), ""))
        common = {key: value for key, value in top.items() if key in COMMON}
        given = common | own
        return {one.name: self._placed(given[one.name]) for one in options if one.name in given}

    def _placed(self, value: Any) -> Any:
        """A value; a path that begins with ./ or ../ counts from the folder of the file."""
        if self.file is not None and isinstance(value, str) and value.startswith(("./", "../")):
            return os.path.relpath(self.file.parent / value)
        return value

    def _prefix(self) -> str:
        return "tool.tokenlens." if self.file and self.file.name == _PROJECT_FILE else ""

    def _where(self) -> str:
        return f"{self.file}: {self._prefix()}"


def _own(folder: Path) -> Settings | None:
    file = folder / _OWN_FILE
    content = _read(file)
    return None if content is None else Settings(file, content)


def _of_project(folder: Path) -> Settings | None:
    file = folder / _PROJECT_FILE
    tool = (_read(file) or {}).get("tool", {})
    if not isinstance(tool, dict) or "tokenlens" not in tool:
        return None
    if not isinstance(tool["tokenlens"], dict):
        raise OptionError(
            f"{file}: tool.tokenlens: got {shown(tool['tokenlens'])}, expected a table of options"
        )
    return Settings(file, tool["tokenlens"])


def _read(file: Path) -> dict[str, Any] | None:
    """The content of a TOML file; None where there is none."""
    if not os.path.lexists(file):
        return None
    if not file.is_file():
        raise OptionError(f"{file}: is no file, expected TOML; give it another name")
    try:
        if file.stat().st_size > _LARGEST:
            raise OptionError(f"{file}: is over 1 MiB, expected a few options; leave the rest out")
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as fault:
        raise OptionError(
            f"{file}: cannot be read: {fault.strerror}; make it readable, or move it away"
        ) from fault
    except UnicodeDecodeError as fault:
        raise OptionError(f"{file}: is not UTF-8, expected TOML") from fault
    except RecursionError as fault:
        raise OptionError(f"{file}: is nested too deeply, expected a few options") from fault
    except ValueError as fault:
        raise OptionError(f"{file}: is not TOML: {fault}; correct it there") from fault


def _keys(table: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    """Keys as options are named in Python, with their values: `batch-size` is `batch_size`."""
    seen = set()
    for key, value in table.items():
        name = key.replace("-", "_")
        if name in seen:
            raise OptionError(f"{where}{key}: given twice, with - and _; expected once")
        seen.add(name)
        yield name, value


def _check_value(option: TyperOption, value: Any, where: str) -> None:
    values = value if option.multiple and isinstance(value, list) else [value]
    as_list = isinstance(value, list)
    if as_list != bool(option.multiple) or not all(_fits(option, one) for one in values):
        raise OptionError(f"{where}: got {shown(value)}, expected {_expected(option)}")


def _kind(option: TyperOption) -> Any:
    """The type of one value, or the names that it may be."""
    annotation = option.type_descriptor.annotation
    inner = get_args(annotation)[0] if option.multiple else annotation
    return get_args(inner) if get_origin(inner) is Literal else inner


def _fits(option: TyperOption, value: Any) -> bool:
    kind = _kind(option)
    if isinstance(kind, tuple):
        return value in kind
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind in (int, float):
        numbers = int if kind is int else (int, float)
        low, high = option.min, option.max
        return (
            isinstance(value, numbers)
            and value == value
            and (low is None or value >= low)
            and (high is None or value <= high)
        )
    return isinstance(value, str) and bool(value.strip())


def _expected(option: TyperOption) -> str:
    kind = _kind(option)
    if isinstance(kind, tuple):
        return f"one of {', '.join(kind)}"
    text = _KINDS.get(kind, "a text that is not empty")
    if option.min is not None and option.max is not None:
        text = f"{text} from {option.min} to {option.max}"
    elif option.min is not None:
        text = f"{text} of at least {option.min}"
    return "a list of texts" if option.multiple else text
