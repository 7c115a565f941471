"""Reader of pictures: RGB pixels in display orientation, whatever the file's mode."""

import io
import struct
import warnings
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from tokenlens.errors import SampleError
from tokenlens.samples.pixels import as_rgb, deep_as_rgb, is_deep_and_dark

__all__ = ["MOST_PIXELS", "StoredPicture", "as_rgb", "open_picture", "picture_size"]

MOST_PIXELS = 100_000_000
"""A picture has fewer pixels than this: they take 300 MB as RGB, and as much again meanwhile."""

_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow's readers raise on files that end early or hold rubbish."""
_TURNED = {5, 6, 7, 8}
"""EXIF orientations that swap width and height."""
_WIDTH, _HEIGHT = ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength
_PNG = b"\x89PNG\r\n\x1a\n"
_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
"""Chunks of a PNG that may say how it is turned."""


class StoredPicture(ABC):
    """A picture kept inside another file, such as a table, and read when it is needed.

    `str()` gives its place, as messages show it.
    """

    @abstractmethod
    def read(self) -> bytes:
        """The bytes of the picture's file. Raises `SampleError` where they cannot be read."""

    @property
    @abstractmethod
    def address(self) -> str:
        """A text from which `samples.benchmarks.stored.find_picture` finds the picture."""


def open_picture(path: Path | StoredPicture) -> Image.Image:
    """The picture at `path` as RGB, turned as its EXIF orientation says, transparency on white.

    Every mode is converted as `samples.pixels` says; an animation gives its first frame. Raises
    `SampleError` for a file that is missing, truncated or not a picture, that has no pixels, or
    that has `MOST_PIXELS` or more.
    """
    try:
        with _opened(path) as picture:
            picture.verify()  # checksums, which loading does not check
        with _opened(path) as picture:
            if is_deep_and_dark(picture):
                with _opened(path) as again:
                    return deep_as_rgb(picture, again)
            picture.load()
            return as_rgb(picture)
    except _DAMAGE as error:
        raise SampleError(f"{path}: the picture is truncated or damaged ({error})") from error


def picture_size(path: Path | StoredPicture) -> tuple[int, int]:
    """(width, height) in pixels as displayed, from the file's header. Raises `SampleError`.

    No pixel is decoded, so a truncated file may still have a size. The exception is a PNG with
    metadata after its pixels, which may hold its orientation.
    """
    try:
        with _opened(path) as picture:
            if picture.format == "PNG" and _has_late_notes(picture.fp):
                picture.load()
            width, height = _stored_size(picture)
            # The base class's method: that of PNG files decodes the pixels first.
            exif = Image.Image.getexif(picture)
            turned = exif.get(ExifTags.Base.Orientation) in _TURNED
    except _DAMAGE as error:
        raise SampleError(f"{path}: the picture's header is damaged ({error})") from error
    return (height, width) if turned else (width, height)


def _stored_size(picture: Image.Image) -> tuple[int, int]:
    """(width, height) before the orientation; Pillow gives a TIFF's size after it."""
    tags = getattr(picture, "tag_v2", None)
    return (tags[_WIDTH], tags[_HEIGHT]) if tags else picture.size


def _has_late_notes(file: IO[bytes] | None) -> bool:
    """Whether a PNG has texts or EXIF after its first pixels; the file position is unchanged."""
    if file is None:
        return False
    before, pixels = file.tell(), False
    file.seek(len(_PNG))
    try:
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if pixels and kind in _NOTES:
                return True
            pixels = pixels or kind == b"IDAT"
            file.seek(length + 4, io.SEEK_CUR)
        return False
    finally:
        file.seek(before)


def _opened(path: Path | StoredPicture) -> ImageFile.ImageFile:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(_file(path))
    except (UnidentifiedImageError, SyntaxError) as error:
        raise SampleError(f"{path}: not a picture that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise SampleError(f"{path}: {_TOO_LARGE}") from error
    except OSError as error:
        fault = f"cannot be read: {error.strerror}" if error.errno else f"{_CUT} ({error})"
        raise SampleError(f"{path}: {fault}") from error
    width, height = picture.size
    if width * height == 0 or width * height >= MOST_PIXELS:
        picture.close()
        fault = _TOO_LARGE if width * height else "the picture has no pixels"
        raise SampleError(f"{path}: {fault} ({width}x{height})")
    if picture.format == "TIFF":
        # Pillow maps an uncompressed file by its name, with the size after the orientation: rows of
        # another width than they have.
        picture.filename = ""
    return picture


_CUT = "truncated or not a picture"
_TOO_LARGE = (
    f"the picture has {MOST_PIXELS // 10**6} megapixels or more; give a smaller copy, and its "
    "regions in the copy's pixels"
)


def _file(path: Path | StoredPicture) -> Path | io.BytesIO:
    """The path or bytes for Pillow to open; `SampleError` where they are missing or empty."""
    if isinstance(path, Path):
        if not path.is_file():
            fault = "a directory, not a picture" if path.is_dir() else "no such picture"
            raise SampleError(f"{path}: {fault}; expected an image file")
        size = path.stat().st_size
    else:
        content = path.read()
        size = len(content)
    if size == 0:
        raise SampleError(f"{path}: the picture is an empty file")
    return path if isinstance(path, Path) else io.BytesIO(content)
