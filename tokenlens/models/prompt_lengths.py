"""Lengths of prompts: of given inputs, or of a model's typical prompt."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenlens.errors import ModelError
from tokenlens.models.structure import visual_mask

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM

USUAL_SIZE = (448, 448)
"""Width and height of the picture that is taken where none is named."""
USUAL_QUESTION = "What is in the picture ? Answer with a word or a short phrase ."


class PromptLengths(NamedTuple):
    """Tokens of one prompt; text between its pictures is counted in `before`.

    Attributes:
        before: text tokens before the last visual token.
        visual: visual tokens.
        after: text tokens after the last visual token.
    """

    before: int
    visual: int
    after: int

    @property
    def text(self) -> int:
        """Tokens that are not visual."""
        return self.before + self.after

    def with_text(self, tokens: int) -> "PromptLengths":
        """The same prompt with `tokens` text tokens; as many as possible stay before the picture.

        >>> PromptLengths(5, 576, 20).with_text(64)
        PromptLengths(before=5, visual=576, after=59)
        """
        before = max(0, min(self.before, tokens - 1))
        return self._replace(before=before, after=tokens - before)


def prompt_lengths(vlm: "VLM", inputs: Mapping[str, Any]) -> PromptLengths:
    """The lengths of one prompt, from its prepared inputs (a batch of one, without padding)."""
    visual = visual_mask(vlm.model, inputs["input_ids"])[0]
    places = visual.nonzero().flatten()
    after = len(visual) - 1 - int(places[-1]) if len(places) else len(visual)
    return PromptLengths(len(visual) - len(places) - after, len(places), after)


def typical_prompt(
    vlm: "VLM", size: tuple[int, int] = USUAL_SIZE, *, image_scale: float | None = None
) -> PromptLengths:
    """Lengths of a prompt of one picture of `size` (width, height) and `USUAL_QUESTION`.

    `image_scale` is the share of its tokens that the picture is shrunk to; see `VLM.prepare`.
    Raises `ModelError` for a model that came without a processor.
    """
    from PIL import Image

    if vlm.processor is None:
        raise ModelError(
            "the model came without a processor, which says how long its prompts are: give the "
            "numbers of visual and of text tokens"
        )
    return prompt_lengths(
        vlm, vlm.prepare(Image.new("RGB", size), USUAL_QUESTION, image_scale=image_scale)
    )
