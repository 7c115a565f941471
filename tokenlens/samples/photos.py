"""Photographs as people name them: a file, a folder, or a pattern."""

from collections.abc import Iterable, Sequence
from glob import glob, has_magic
from pathlib import Path

from PIL import Image

from tokenlens.errors import OptionError, SampleError
from tokenlens.samples.pictures import picture_size
from tokenlens.wording.printable import shown


def split_question(words: Sequence[str]) -> tuple[list[str], str]:
    """The photographs that are named, and the question after them. Raises `OptionError`.

    >>> split_question(["a.jpg", "b.jpg", "what is it?"])
    (['a.jpg', 'b.jpg'], 'what is it?')
    """
    *photos, question = words
    if not photos:
        raise OptionError(
            f"got {shown(question)} alone, expected a photograph and a question, such as: "
            'tokenlens show photo.jpg "where is the dog?"'
        )
    if Path(question).exists():
        raise OptionError(
            f"{shown(question)} is a file, where the question is expected; put the question last"
        )
    return photos, question


def find_photos(named: Iterable[Path | str]) -> list[Path]:
    """The files that are meant, sorted within each folder and pattern, none twice.

    A folder means the pictures right in it. Raises `SampleError` for a file that is missing or no
    picture, and for a folder or pattern without any.
    """
    found: dict[Path, None] = {}
    for name in map(str, named):
        path = Path(name)
        if path.is_dir():
            photos = _pictures(path.iterdir())
        elif not path.exists() and has_magic(name):
            photos = _pictures(map(Path, glob(name)))  # noqa: PTH207 - the pattern may be absolute
        else:
            photos = [path]
        if not photos:
            raise SampleError(f"{shown(name)}: no pictures there; name a photograph")
        found |= dict.fromkeys(photos)
    for path in found:
        picture_size(path)
    return list(found)


def _pictures(paths: Iterable[Path]) -> list[Path]:
    known = Image.registered_extensions()
    return sorted(path for path in paths if path.is_file() and path.suffix.lower() in known)
