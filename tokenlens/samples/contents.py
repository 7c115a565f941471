"""Hashes of pictures by their content, by which samples are recognised as the same."""

from pathlib import Path

from PIL.Image import Image

from tokenlens.samples.pictures import StoredPicture
from tokenlens.samples.sample import Picture, Sample
from tokenlens.storage.files import hash_bytes


def picture_hashes(sample: Sample) -> list[str]:
    """Hash of the bytes of every picture of a sample, in their order.

    Raises `SampleError` where a picture cannot be read.
    """
    return [hash_bytes(_picture_bytes(sample, one)) for one in sample.pictures]


def _picture_bytes(sample: Sample, image: Picture) -> bytes:
    if isinstance(image, Image):
        return f"{image.mode} {image.size} {image.getexif().tobytes()!r}".encode() + image.tobytes()
    if isinstance(image, StoredPicture):
        return image.read()
    try:
        return Path(image).read_bytes()
    except OSError:
        sample.open_images()  # raises the error that explains the fault
        raise
