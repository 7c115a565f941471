"""Errors in JSON files as one line: the key, the value found and the value expected."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from tokenlens.errors import TokenlensError
from tokenlens.wording.printable import shown
from tokenlens.wording.suggest import one_of

_EXPECTED = {
    "int_type": "an integer",
    "string_type": "a text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "too_short": "at least one",
    "string_too_short": "a text that is not empty",
    "model_type": "an object",
}


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault in `error`, raised while validating `model`, and how many more there are."""
    faults = error.errors()
    first = faults[0]
    path, kind, got = _path(first["loc"]), first["type"], first["input"]
    if kind == "extra_forbidden":
        known = _keys_at(first["loc"][:-1], model)
        text = f"unknown key, expected {one_of(str(first['loc'][-1]), known)}"
    elif kind == "missing":
        text = "is missing"
    elif kind == "value_error":
        text = first["msg"].removeprefix("Value error, ")
    else:
        expected = _EXPECTED.get(kind, first["msg"].removeprefix("Input should be "))
        text = f"got {shown(got)}, expected {expected}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return " ".join(f"{path}: {text}{more}".split())


def read_object(
    path: Path, error: type[TokenlensError], remedy: str, named: str | None = None
) -> dict[str, Any]:
    """The object in a JSON file; any fault of the file raises `error` with the file's name.

    `remedy` ends the message where the file cannot be read at all; `named` is what messages call
    the file, where that is not its path.
    """
    where = named or str(path)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise error(f"{where}: {key}: given twice in one object, expected once")
        return dict(pairs)

    try:
        content = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=unique)
    except OSError as fault:
        raise error(f"{where}: cannot be read: {fault.strerror}; {remedy}") from fault
    except UnicodeDecodeError as fault:
        raise error(f"{where}: is not UTF-8, expected a JSON object") from fault
    except json.JSONDecodeError as fault:
        raise error(f"{where}:{fault.lineno}:{fault.colno}: is not JSON: {fault.msg}") from fault
    except RecursionError as fault:
        raise error(
            f"{where}: is not JSON that can be read: nested too deeply; {remedy}"
        ) from fault
    except ValueError as fault:
        raise error(
            f"{where}: is not JSON that can be read: a number of over 4300 digits; {remedy}"
        ) from fault
    if not isinstance(content, dict):
        raise error(f"{where}: got a JSON {type(content).__name__}, expected an object; {remedy}")
    return content


def _path(location: Sequence[int | str]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).lstrip(".") or "top level"


def _keys_at(location: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """The keys that the object at `location` can have."""
    for part in location:
        model = _keys(model).get(str(part)) or model
    return list(_keys(model))


def _keys(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    """Keys of `model` as a file has them, each with the model of its value where it has one."""
    return {
        field.alias or name: _model_in(field.annotation)
        for name, field in model.model_fields.items()
    }


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
