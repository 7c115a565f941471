"""Conversion of pictures of any mode and depth to RGB of 8 bits.

A file may use fewer bits than its numbers have room for (12 bits of a sensor in 16) without saying
so. White is therefore the largest value of the smallest usual depth (8, 10, 12, 14 or 16 bits) that
holds the picture's brightest value: the same pixels always give the same colours.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps

_DEPTHS = (8, 10, 12, 14, 16)
"""Bits per value that cameras, scanners and screens have."""
_FULL = 2**16 - 1
_OTHER_END = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
"""Ends of Pillow's raw modes of 16 bits, of which it reads the upper 8, to those by which it reads
the lower 8 of the same bytes."""


def as_rgb(picture: Image.Image) -> Image.Image:
    """A picture in memory as RGB, in display orientation, transparency on white.

    An animation gives its current frame. Integers of more than 8 bits are scaled as the module
    says. Floating-point values are shares of white where none is above 1; where some are negative,
    the range from the smallest to the largest value is scaled from black to white.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        return _shown(np.asarray(picture).astype(np.uint16, copy=False)).convert("RGB")
    if picture.mode in ("I", "F"):
        return _shown_numbers(np.asarray(picture)).convert("RGB")
    if picture.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        return ImageCms.applyTransform(picture, transform) or picture
    if picture.has_transparency_data:
        return _on_white(picture.convert("RGBA"))
    return picture.convert("RGB")


def is_deep_and_dark(picture: Image.Image) -> bool:
    """Whether a colour picture, opened but not loaded, has 16 bits per channel and uses fewer.

    Pillow reads the upper 8 bits of 16. Loads the picture where it has 16.
    """
    if not any(_lower_half(tile) for tile in getattr(picture, "tile", ())):
        return False
    colours = np.asarray(picture)[..., :3]
    dark: bool = int(colours.max()) < 2 ** (_DEPTHS[-2] - 8)
    return dark


def deep_as_rgb(upper: Image.Image, lower: ImageFile.ImageFile) -> Image.Image:
    """RGB of a picture that `is_deep_and_dark`; `lower` is the same file, opened again unloaded."""
    lower.tile = [_lower_half(tile) for tile in lower.tile]
    high, low = np.asarray(upper).astype(np.uint16), np.asarray(lower)
    values = (high << 8) | low
    pixels = _table(white_of(int(values[..., :3].max())))[values]
    shown = Image.fromarray(pixels)
    if upper.mode == "RGBA":
        shown = _on_white(shown)
    shown.getexif().update(upper.getexif())
    return ImageOps.exif_transpose(shown)


def white_of(brightest: int) -> int:
    """The value that is shown as white, where `brightest` is the largest in the picture.

    >>> [white_of(value) for value in (0, 255, 256, 4000, 4096, 65535)]
    [255, 255, 1023, 4095, 16383, 65535]
    """
    return next((2**bits - 1 for bits in _DEPTHS if brightest < 2**bits), brightest)


def _lower_half(tile: Any) -> Any:
    """A tile of 16-bit colour so that Pillow reads its lower 8 bits; None for any other."""
    codec, extents, offset, given = tile
    mode, *rest = (given,) if isinstance(given, str) else given or ("",)
    name, _, end = str(mode).partition(";")
    if name not in ("RGB", "RGBA", "RGBX") or end not in _OTHER_END:
        return None
    changed = f"{name};{_OTHER_END[end]}"
    arguments = changed if isinstance(given, str) else (changed, *rest)
    return ImageFile._Tile(codec, extents, offset, arguments)


def _shown(values: NDArray[np.uint16]) -> Image.Image:
    return Image.fromarray(_table(white_of(int(values.max())))[values])


def _table(white: int) -> NDArray[np.uint8]:
    """The 8-bit value for every value of 16 bits: uint8 [65536]."""
    shown = np.arange(_FULL + 1) * (255 / white)
    return np.clip(np.round(shown), 0, 255).astype(np.uint8)


def _shown_numbers(values: NDArray[np.int32] | NDArray[np.float32]) -> Image.Image:
    """Integers of 32 bits or floating-point values as grey; NaN is black."""
    numbers = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = min(0.0, float(numbers.min())), float(numbers.max())
    if low < 0:
        white = high - low
    elif values.dtype.kind == "f" and high <= 1:
        white = 1.0
    else:
        white = float(white_of(int(np.ceil(high))))
    return Image.fromarray(
        np.clip(np.round((numbers - low) * (255 / (white or 1.0))), 0, 255).astype(np.uint8)
    )


def _on_white(colours: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
