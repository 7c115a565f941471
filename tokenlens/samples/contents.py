"""Hashes of pictures by their content, by which samples are recognised as the same.

Of a file these are its bytes, of a picture in memory the colours that a model is shown: its own
pixels may be numbers of colours in a palette, which is not among them.
"""

from pathlib import Path

from PIL.Image import Image

from tokenlens.samples.pictures import StoredPicture, as_rgb
from tokenlens.samples.sample import Picture, Sample
from tokenlens.storage.files import hash_bytes


def picture_hashes(sample: Sample) -> list[str]:
    """Hash of every picture of a sample, in their order.

    Raises `SampleError` where a picture cannot be read.
    """
    return [hash_bytes(_picture_bytes(sample, one)) for one in sample.pictures]


def _picture_bytes(sample: Sample, image: Picture) -> bytes:
    if isinstance(image, Image):
        shown = as_rgb(image)
        return f"{shown.size}".encode() + shown.tobytes()
    if isinstance(image, StoredPicture):
        return image.read()
    try:
        return Path(image).read_bytes()
    except OSError:
        sample.open_images()  # raises the error that explains the fault
        raise
