"""Pixtral's processor for pictures only; that of transformers needs torchvision."""

from collections.abc import Mapping
from typing import Any

from transformers import BatchFeature, ProcessorMixin

from tokenlens.errors import ModelError


def square_side(patch_size: int | Mapping[str, int]) -> int:
    """The side of a square patch, published as a number or as {"height": …, "width": …}.

    Raises `ModelError` for a patch that is not square; the family's models have none.

    >>> square_side(14), square_side({"height": 14, "width": 14})
    (14, 14)
    """
    if not isinstance(patch_size, Mapping):
        return patch_size
    sides = {patch_size.get("height"), patch_size.get("width")}
    side = sides.pop()
    if sides or side is None:
        raise ModelError(
            f"patch_size: got {dict(patch_size)}, expected a number, or height and width alike"
        )
    return side


class PixtralPictureProcessor(ProcessorMixin):
    """Makes the same prompt and tensors as transformers' `PixtralProcessor`.

    A picture becomes rows of image tokens, with a break token after each row but the last,
    and an end token after the last. The only difference is that torchvision is not needed.

    Attributes:
        patch_size: pixels along a patch's side in the tower.
        spatial_merge_size: patches along a token's side.
    """

    text_kwargs = {"return_tensors": "pt"}  # noqa: RUF012 - transformers reads it from the class
    images_kwargs = {"return_tensors": "pt"}  # noqa: RUF012

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        patch_size: int | Mapping[str, int] = 16,
        spatial_merge_size: int = 1,
        chat_template: str | None = None,
        image_token: str = "[IMG]",  # noqa: S107 - a token of a vocabulary
        image_break_token: str = "[IMG_BREAK]",  # noqa: S107
        image_end_token: str = "[IMG_END]",  # noqa: S107
        **_: Any,
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call] # transformers leaves it unannotated
            image_processor, tokenizer, chat_template=chat_template
        )
        self.patch_size = square_side(patch_size)
        self.spatial_merge_size = spatial_merge_size
        self.image_token = image_token
        self.image_break_token = image_break_token
        self.image_end_token = image_end_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
        self.image_token_ids = tokenizer.convert_tokens_to_ids(
            [image_token, image_break_token, image_end_token]
        )

    def replace_image_token(self, image_inputs: dict[Any, Any], image_idx: int, **_: Any) -> str:
        """The text of one picture's tokens."""
        side = self.patch_size * self.spatial_merge_size
        height, width = image_inputs["image_sizes"][image_idx]
        row = self.image_token * (width // side)
        return self.image_break_token.join([row] * (height // side)) + self.image_end_token

    def _process_images(self, images: Any, **settings: Any) -> tuple[BatchFeature, list[str]]:
        settings["patch_size"] = self.patch_size * self.spatial_merge_size
        processed: tuple[BatchFeature, list[str]] = super()._process_images(images, **settings)
        return processed

    @property
    def model_input_names(self) -> list[str]:
        """The keys of its output."""
        return [*super().model_input_names, "image_sizes"]
