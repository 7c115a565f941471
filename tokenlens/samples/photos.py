"""Photographs as people name them: a file, a folder, a pattern, or a bundled one by its name."""

from collections.abc import Iterable, Sequence
from glob import glob, has_magic
from pathlib import Path

from PIL import Image

from tokenlens.errors import OptionError, SampleError
from tokenlens.samples.bundled import PHOTOS, bundled_folder
from tokenlens.samples.pictures import picture_size
from tokenlens.wording.printable import shown
from tokenlens.wording.suggest import one_of


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

    A folder means the pictures right in it; `photos/NAME` a bundled photograph, and `photos` all
    of them, where no folder of that name is in the way. Raises `SampleError` for a file that is
    missing or no picture, and for a folder or pattern without any.

    >>> [path.name for path in find_photos(["photos/dog", "photos/c*k*"])]
    ['dog.jpg', 'chickens.jpg']
    """
    found: dict[Path, None] = {}
    for name in map(str, named):
        path = _place(name)
        if path.is_dir():
            photos = _pictures(path.iterdir())
        elif not path.exists() and has_magic(name):
            pattern = str(path)
            photos = _pictures(map(Path, glob(pattern)))  # noqa: PTH207 - it may be absolute
        else:
            photos = [path]
        if not photos:
            raise SampleError(f"{shown(name)}: no pictures there; name a photograph")
        found |= dict.fromkeys(photos)
    for path in found:
        picture_size(path)
    return list(found)


def _place(name: str) -> Path:
    """The path that a name stands for. `SampleError` where it is no bundled photograph's."""
    first, *rest = Path(name).parts or ("",)
    if first != PHOTOS or Path(first).exists():
        return Path(name)
    folder = bundled_folder(PHOTOS)
    path = folder.joinpath(*rest)
    if has_magic(name) or path.exists():
        return path
    known = [photo.stem for photo in _pictures(folder.iterdir())]
    if path.name not in known:
        raise SampleError(f"{shown(name)}: no such photograph; expected {one_of(path.name, known)}")
    return path.with_name(f"{path.name}.jpg")


def _pictures(paths: Iterable[Path]) -> list[Path]:
    known = Image.registered_extensions()
    return sorted(path for path in paths if path.is_file() and path.suffix.lower() in known)
