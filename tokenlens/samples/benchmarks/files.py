"""Readers of published files; every error names the file and the line or entry."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenlens.errors import SampleError


def read_text(path: Path) -> str:
    """A file as text; `SampleError` where it is missing, unreadable or not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SampleError(f"{path}:{line}: is not UTF-8") from error
    except OSError as error:
        raise SampleError(f"{path}: cannot be read ({error.strerror})") from error


def read_json(path: Path) -> Any:
    """The JSON value in a file."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise SampleError(f"{path}:{error.lineno}: is not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise SampleError(f"{path}: is not JSON that can be read ({error})") from error


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The JSON values of a file with one per line, each with its place; blank lines are skipped."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            place = f"{path}:{number}"
            try:
                yield place, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SampleError(f"{place}: is not JSON ({error})") from error


def read_list(path: Path) -> Iterator[tuple[str, Any]]:
    """The values of a file with one JSON array or one value per line, each with its place."""
    if not read_text(path).lstrip().startswith("["):
        return read_lines(path)
    return ((f"{path}: [{index}]", entry) for index, entry in enumerate(read_json(path)))


def entries(path: Path, key: str) -> Iterator[tuple[str, Any]]:
    """The entries of the list under `key` in a JSON file, each with its place."""
    content = read_json(path)
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise SampleError(f"{path}: expected an object with a list {key!r}")
    return ((f"{path}: {key}[{index}]", entry) for index, entry in enumerate(found))


def find(folder: Path, patterns: Sequence[str], what: str) -> Path:
    """The first file under `folder` that matches one of the patterns, tried in turn."""
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
    raise SampleError(f"{folder} holds no {what}; expected {' or '.join(patterns)}")


class PictureFolder:
    """The pictures of a benchmark, stored in one of several folders of one of several places."""

    def __init__(self, tops: Sequence[Path], candidates: Sequence[str]) -> None:
        self._folders = [top / candidate for top in tops for candidate in candidates]

    def find(self, name: str) -> Path:
        """The path at which the picture called `name` is, or should be."""
        paths = [folder / name for folder in self._folders]
        return next((path for path in paths if path.is_file()), paths[0])
