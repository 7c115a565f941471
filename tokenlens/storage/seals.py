"""Sealed JSON files: objects with a hash of their content, so that damage is detected."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenlens.errors import TokenlensError
from tokenlens.storage.files import json_text, write_text
from tokenlens.storage.json_files import read_object

SEAL = "sha256"
"""The key that holds the hash, hexadecimal; a file without it is read as it is."""
_NOT_CONTENT = (SEAL, "wall_s")
"""How long a run took is no part of what it found: two runs of the same have the same hash."""


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object without its seal and its `wall_s`, whatever the order of its keys.

    >>> digest({"a": 1, "b": (2,)}) == digest({"b": [2], "a": 1, "sha256": "?"})
    True
    """
    plain = json.loads(
        json.dumps({key: content[key] for key in content if key not in _NOT_CONTENT})
    )
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The object with its hash as its last key."""
    return {**{key: content[key] for key in content if key != SEAL}, SEAL: digest(content)}


def is_broken(content: Mapping[str, Any]) -> bool:
    """Whether an object has a hash that does not match its content."""
    return SEAL in content and content[SEAL] != digest(content)


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object with its hash, whole or not at all."""
    write_text(path, sealed_text(content))


def sealed_text(content: Mapping[str, Any]) -> str:
    """The text of the file that `write_sealed` writes."""
    return json_text(sealed(content))


def read_sealed(path: Path, error: type[TokenlensError], remedy: str) -> dict[str, Any]:
    """The object in a JSON file, with its hash where it has one.

    Any fault of the file, also a hash that does not match, raises `error` with the file's name and
    with `remedy` at the end.
    """
    content = read_object(path, error, remedy)
    if is_broken(content):
        raise error(f"{path} is damaged: it is not what was written there; {remedy}")
    return content


def require(
    content: Mapping[str, Any],
    path: Path,
    error: type[TokenlensError],
    keys: Mapping[str, type | tuple[type, ...]],
) -> None:
    """Raise `error` for the first key, nested ones joined with dots, that is missing or mistyped.

    >>> require({"a": {"b": 1}}, Path("x.json"), TokenlensError, {"a.b": int})
    """
    for dotted, kinds in keys.items():
        value: Any = content
        for key in dotted.split("."):
            if not isinstance(value, Mapping) or key not in value:
                raise error(f"{path}: {dotted}: is missing; the file is damaged or foreign")
            value = value[key]
        several = kinds if isinstance(kinds, tuple) else (kinds,)
        if not isinstance(value, several) or (isinstance(value, bool) and bool not in several):
            names = " or ".join(_NAMES.get(kind, kind.__name__) for kind in several)
            raise error(
                f"{path}: {dotted}: got {str(value)[:60]!r}, expected {names}; the file is damaged "
                "or foreign"
            )


_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "an integer",
    bool: "true or false",
    type(None): "null",
}
