"""The arguments of a model on lmms-eval's command line: `--model_args pretrained=…,schedule=…`."""

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tokenlens.errors import OptionError, TokenlensWarning
from tokenlens.schedule import Schedule
from tokenlens.schedule.schedule import FILE
from tokenlens.storage.hub import HubPlace
from tokenlens.wording.suggest import one_of

NONE = ("", "none")
"""Values of `schedule` that mean the unpruned model."""
_DIGITS = 16


class UnhashedWarning(TokenlensWarning):
    """A schedule without its hash in the arguments: a cache of responses cannot tell it apart."""


@dataclass(frozen=True, kw_only=True)
class ScheduleFile:
    """The schedule of a run, read and checked against the hash in the arguments.

    Attributes:
        schedule: what it says; None for the unpruned model.
        any_model: whether it may be made for a model of another id.
    """

    schedule: Schedule | None = None
    any_model: bool = False

    @classmethod
    def read(
        cls,
        schedule: Any = None,
        schedule_hash: Any = None,
        any_model: Any = False,
        *,
        command: Sequence[str] = (),
    ) -> Self:
        """Read the file, where one is named.

        lmms-eval's cache of responses (`--use_cache`) knows a run by its arguments, not by what
        the files in them hold: a changed schedule of the same name would be given the old answers.
        So the file's SHA-256 belongs in the arguments, its first 16 hexadecimal digits or more.

        Args:
            schedule: path of a schedule file, or hub:USER/NAME[@REVISION]; None, empty or "none"
                for the unpruned model.
            schedule_hash: "sha256:" and the digits. (Bare digits might be taken for a number.)
            any_model: whether the schedule may be made for a model of another id.
            command: the words of the command line.

        Raises:
            OptionError: the hash is another, or is missing where responses are cached.
            ScheduleError: the file cannot be used.

        >>> ScheduleFile.read("none")
        ScheduleFile(schedule=None, any_model=False)
        """
        name = unquoted(schedule)
        if name.lower() in NONE:
            return cls()
        loaded, place = Schedule.load(name), HubPlace.parse(name)
        file = place.fetch(FILE) if place else Path(name)
        _check_hash(name, file.read_bytes(), schedule_hash, command)
        return cls(schedule=loaded, any_model=any_model is True)


def unquoted(value: Any) -> str:
    """An argument as text, without the quotes that keep its commas together.

    >>> unquoted("'a,b.json'"), unquoted(2024), unquoted(None)
    ('a,b.json', '2024', '')
    """
    text = "" if value is None else str(value).strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def check_known(given: Iterable[str], known: Sequence[str]) -> None:
    """Raise `OptionError` for an argument that a model does not have.

    >>> check_known(["schedul"], ["pretrained", "schedule"])
    Traceback (most recent call last):
    tokenlens.errors.OptionError: model_args: got 'schedul', expected one of pretrained, schedule \
(did you mean 'schedule'?); commas part arguments, so a value that holds one needs quotes
    """
    for key in given:
        if key not in known:
            raise OptionError(
                f"model_args: got {key!r}, expected {one_of(key, known)}; commas part arguments, "
                "so a value that holds one needs quotes"
            )


def count(name: str, value: Any) -> int:
    """A positive whole number. Raises `OptionError`, as for lmms-eval's batch size "auto"."""
    if not str(value).isdecimal() or int(value) < 1:
        raise OptionError(f"{name}: got {value!r}, expected a whole number from 1, such as 8")
    return int(value)


def _check_hash(name: str, content: bytes, given: Any, command: Sequence[str]) -> None:
    found = hashlib.sha256(content).hexdigest()
    wanted = f"schedule={name},schedule_hash=sha256:{found[:_DIGITS]}"
    if given is None:
        reason = "a cache of responses sees the arguments, not what the schedule file holds"
        if any(word.split("=")[0] == "--use_cache" for word in command):
            raise OptionError(f"--use_cache: {reason}; give {wanted}")
        warnings.warn(f"{reason}; with --use_cache give {wanted}", UnhashedWarning, stacklevel=4)
        return
    digits = str(given).removeprefix("sha256:").lower()
    if len(digits) < _DIGITS or not found.startswith(digits):
        raise OptionError(
            f"schedule_hash: got {given!r}, but the file's hash is another: it was changed, or "
            f"another file is meant; give {wanted}"
        )
