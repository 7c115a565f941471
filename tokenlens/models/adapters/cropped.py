"""Layout of LLaVA-1.5: a picture is resized, cropped at its centre and cut into patches."""

from tokenlens.models.adapters.adapter import AdapterContext, PictureTokens
from tokenlens.models.adapters.boxes import cell_boxes, spans
from tokenlens.models.adapters.stretched import pixtral_rows


def centre_crop(given: AdapterContext) -> list[PictureTokens]:
    """The cells of the square that is cut out of each picture.

    No token covers the parts outside the crop. A processor set to pad makes the picture square
    first; one that resizes to a width and a height (SigLIP's) stretches it. LLaVA with Pixtral's
    tower has rows instead, given by `image_sizes`.
    """
    if "image_sizes" in given.inputs:
        return pixtral_rows(given)
    height, width = given["pixel_values"].shape[-2:]
    return [_cropped(given, size, (width, height)) for size in given.known_sizes()]


def _cropped(given: AdapterContext, size: tuple[int, int], crop: tuple[int, int]) -> PictureTokens:
    patch = given.config.vision_config.patch_size
    padded = (max(size), max(size)) if given.setting("do_pad") else size
    resized = _resized(given, padded)
    x, y = (
        spans(
            crop[axis] // patch,
            patch * padded[axis] / resized[axis],
            size[axis],
            (resized[axis] - crop[axis]) // 2 * padded[axis] / resized[axis]
            - (padded[axis] - size[axis]) // 2,
        )
        for axis in (0, 1)
    )
    return PictureTokens((1, len(y), len(x)), cell_boxes(x, y))


def _resized(given: AdapterContext, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height after the processor's resizing, in whole pixels."""
    target = given.setting("size")
    if not given.setting("do_resize"):
        return size
    if target.get("shortest_edge") is None:
        return target["width"], target["height"]
    short = target["shortest_edge"]
    width, height = (int(short * length / min(size)) for length in size)
    return width, height
