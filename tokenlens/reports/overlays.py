"""Pictures for the page: small data URIs in layers, and outlines in the same coordinates."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tokenlens.analyses.drawing.picture_sheet import Outline
from tokenlens.analyses.drawing.token_raster import shrunk
from tokenlens.analyses.importance_maps import Scale, backdrop
from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.stored import find_picture
from tokenlens.samples.pictures import open_picture

LONGEST = 360
"""Length in pixels of the longer side of a picture on the page."""
_GREY = "#8a8f98"


@dataclass(frozen=True)
class Overlay:
    """One picture of the page. Coordinates are pixels of the picture as the model received it."""

    width: int
    height: int
    picture: str
    """Data URI of the picture in colour."""
    backdrop: str
    """Data URI of the picture as a background for importance maps."""
    regions: tuple[str, ...]
    """The outlines of the region, as SVG `points`."""


def read_picture(image: str, size: tuple[int, int]) -> tuple[Image.Image, str | None]:
    """The picture that the model received, or plain grey and the reason why it cannot be read."""
    try:
        if not image:
            raise SampleError(
                "the picture was given in memory and is not on disk; save it to a file to see it "
                "here"
            )
        picture = open_picture(find_picture(image))
        if picture.size != size:
            raise SampleError(
                f"{image}: the picture has changed; it is {picture.width}x{picture.height} pixels "
                f"now and was {size[0]}x{size[1]}"
            )
    except SampleError as error:
        return Image.new("RGB", size, _GREY), str(error)
    return picture, None


def overlay(picture: Image.Image, outlines: Iterable[Outline]) -> Overlay:
    """Prepare a picture for the page; it is stored once, for any number of maps on it."""
    small = shrunk(picture, LONGEST)
    points = tuple(" ".join(f"{x:g},{y:g}" for x, y in outline) for outline in outlines)
    return Overlay(*picture.size, _jpeg(small), _jpeg(backdrop(small)), points)


def png_uri(pixels: np.ndarray) -> str:
    """Data URI of pixels: uint8 [height, width, 4], RGBA."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return data_uri("image/png", buffer.getvalue())


def colour_bar_uri(scale: Scale, steps: int = 64) -> str:
    """Data URI of a colour scale from 0 to its top, left to right, for a dark background."""
    return png_uri(scale.paint(np.linspace(0, scale.top, steps)[None, :]))


def data_uri(kind: str, content: bytes) -> str:
    """Data URI of content, for an attribute of the page.

    >>> data_uri("text/plain", b"hello")
    'data:text/plain;base64,aGVsbG8='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return data_uri("image/jpeg", buffer.getvalue())
