"""Types of adapters: the adapter itself, its input and its output."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from tokenlens.errors import ModelError
from tokenlens.models.adapters.shrinking import Shrinking
from tokenlens.models.adapters.towers import Tower, no_tower


@dataclass(frozen=True)
class PictureTokens:
    """The visual tokens of one picture, in the order of the prompt.

    Attributes:
        grid: (frames, rows, columns) of visual tokens in the finest view of the picture, without
            newline tokens. Several frames follow one another.
        boxes: float32 [tokens, 4], xyxy as shares of the original picture's width and height, 0 to
            1. A token that covers nothing of the picture has a box without area: a newline token at
            the right edge of its row, a padding token at the nearest edge.
    """

    grid: tuple[int, int, int]
    boxes: Tensor


@dataclass(frozen=True)
class AdapterContext:
    """Input from which an adapter computes the visual tokens of a prompt.

    Attributes:
        config: the model's configuration.
        inputs: the model's inputs.
        sizes: (width, height) of every original picture, in order, over the whole batch; None where
            they are not known.
        settings: the image processor's settings; None without a processor.
    """

    config: PreTrainedConfig
    inputs: Mapping[str, Any]
    sizes: tuple[tuple[int, int], ...] | None
    settings: Mapping[str, Any] | None

    def __getitem__(self, name: str) -> Tensor:
        """One of the inputs. Raises `ModelError` where it is missing."""
        if name not in self.inputs:
            raise ModelError(
                f"the inputs of this {self.config.model_type!r} model hold visual tokens but no "
                f"{name}; make them with prepare(...)"
            )
        value: Tensor = self.inputs[name]
        return value

    def known_sizes(self) -> tuple[tuple[int, int], ...]:
        """The original sizes. Raises `ModelError` where they are not known."""
        if self.sizes is None:
            raise ModelError(
                f"the boxes of {self.config.model_type!r} depend on the original pictures' sizes, "
                "which these inputs do not carry: make them with prepare(...), or give "
                "layout(inputs, sizes=[(width, height), …])"
            )
        return self.sizes

    def setting(self, name: str) -> Any:
        """A setting of the image processor, or None. Raises `ModelError` without a processor."""
        if self.settings is None:
            raise ModelError(
                f"the boxes of {self.config.model_type!r} depend on how its processor treats "
                "pictures: give it with VLM.wrap(model, processor)"
            )
        return self.settings.get(name)


@dataclass(frozen=True)
class Adapter:
    """Description of a model family.

    Attributes:
        family: its usual name.
        model_type: `config.model_type`, by which the adapter is found.
        architecture: the Hugging Face class.
        tokens: the visual tokens of a picture, in a few words, for the support table.
        pictures: computes the visual tokens of every picture, in order, over the whole batch.
        videos: the same for every video; None where the layout of the family's videos is not known.
        tower: returns how to read the vision tower of a model, None where it cannot be read; the
            scorer "vision" needs it.
        shrinking: how smaller pictures are prepared; None where every picture becomes whole tiles
            or always the same number of tokens.
        chat_template: Jinja template, for families whose processors have none.
    """

    family: str
    model_type: str
    architecture: str
    tokens: str
    pictures: Callable[[AdapterContext], list[PictureTokens]]
    videos: Callable[[AdapterContext], list[PictureTokens]] | None = None
    tower: Callable[[PreTrainedModel], Tower | None] = no_tower
    shrinking: Shrinking | None = None
    chat_template: str | None = None
