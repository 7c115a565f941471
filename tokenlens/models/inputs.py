"""Model inputs that also hold the sizes of their original pictures."""

from collections.abc import Mapping
from typing import Any

from transformers import BatchFeature


class PreparedInputs(BatchFeature):
    """A model's inputs, ready for `model(**inputs)`, with the original pictures' sizes beside them.

    Attributes:
        sizes: (width, height) of every picture, in order, over the whole batch. It is not a key, so
            the model does not receive it. None in inputs made from other inputs' keys.
        settings: the image processor's settings for these pictures, where not its usual ones.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        sizes: tuple[tuple[int, int], ...] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(None if data is None else dict(data))
        self.sizes = sizes
        self.settings = settings or {}

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data, "sizes": self.sizes, "settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.data, self.sizes = state["data"], state["sizes"]
        self.settings = state["settings"]
