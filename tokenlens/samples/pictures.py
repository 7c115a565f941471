"""Pictures as people see them: whatever the file holds, RGB pixels in display orientation."""

import io
import struct
import zlib
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from tokenlens.errors import SampleError

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""What Pillow's readers raise on files that end early or hold rubbish."""
_TURNED = {5, 6, 7, 8}
"""EXIF orientations that swap width and height."""


class StoredPicture(ABC):
    """A picture kept inside another file, such as a table, and read when it is needed.

    Its text is its place, as messages show it.
    """

    @abstractmethod
    def read(self) -> bytes:
        """The picture's own file. Raises `SampleError` where it cannot be had."""

    @property
    @abstractmethod
    def address(self) -> str:
        """A text from which `samples.benchmarks.stored.find_picture` finds it again."""


def open_picture(path: Path | StoredPicture) -> Image.Image:
    """The picture at `path` as RGB, turned as its EXIF orientation says, transparency on white.

    CMYK, greyscale (8 and 16 bit) and palette pictures are converted. Raises `SampleError` for a
    file that is missing, truncated, no picture, or has no pixels.
    """
    try:
        with _opened(path) as picture:
            picture.verify()  # checksums, which loading passes over
        with _opened(path) as picture:
            picture.load()
            return as_rgb(picture)
    except _DAMAGE as error:
        raise SampleError(f"{path}: the picture is truncated or damaged ({error})") from error


def picture_size(path: Path | StoredPicture) -> tuple[int, int]:
    """(width, height) in pixels as displayed, from the file's header. Raises `SampleError`.

    No pixel is decoded, so a truncated file may still have a size, and an orientation that a PNG
    keeps after its pixels goes unseen.
    """
    try:
        with _opened(path) as picture:
            width, height = picture.size
            # Not the override of PNG files, which decodes the pixels first.
            exif = Image.Image.getexif(picture)
            turned = exif.get(ExifTags.Base.Orientation) in _TURNED
    except _DAMAGE as error:
        raise SampleError(f"{path}: the picture's header is damaged ({error})") from error
    return (height, width) if turned else (width, height)


def as_rgb(picture: Image.Image) -> Image.Image:
    """A picture in memory as RGB, in display orientation, transparency on white."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        return _scaled_grey(picture).convert("RGB")
    if picture.has_transparency_data:
        colours = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), colours).convert(
            "RGB"
        )
    return picture.convert("RGB")


def _scaled_grey(picture: Image.Image) -> Image.Image:
    """16-bit greyscale to 8 bit: Pillow's own conversion clips at 255 instead of scaling."""
    values = np.asarray(picture, dtype=np.float64)
    return Image.fromarray(np.clip(np.round(values / 257), 0, 255).astype(np.uint8))


def _opened(path: Path | StoredPicture) -> Image.Image:
    try:
        picture = Image.open(_file(path))
    except (UnidentifiedImageError, SyntaxError) as error:
        raise SampleError(f"{path}: not a picture that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise SampleError(f"{path}: the picture is too large ({error})") from error
    except OSError as error:
        fault = f"cannot be read: {error.strerror}" if error.errno else "truncated or not a picture"
        raise SampleError(f"{path}: {fault} ({error})") from error
    if 0 in picture.size:
        picture.close()
        raise SampleError(f"{path}: the picture has no pixels ({picture.width}x{picture.height})")
    return picture


def _file(path: Path | StoredPicture) -> Path | io.BytesIO:
    """What Pillow opens; a `SampleError` where it is missing or empty."""
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
