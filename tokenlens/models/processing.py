"""Loading of a model's processor, with the same tensors with and without torchvision."""

from functools import wraps
from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor, PreTrainedConfig, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils.import_utils import is_torchvision_available

from tokenlens.errors import ModelError
from tokenlens.models.chat_template import check_template
from tokenlens.models.no_video import NoVideo
from tokenlens.models.pixtral import PixtralPictureProcessor

_PICTURES_ONLY = {"mistral3": PixtralPictureProcessor}
"""Processors that take the place of those that cannot even be imported without torchvision."""


_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)


def has_processor(folder: Path) -> bool:
    """Whether a directory holds files of a tokenizer, which every processor needs."""
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def load_processor(folder: Path, config: PreTrainedConfig) -> ProcessorMixin:
    """The processor of the model in `folder`, its pictures resized by Pillow.

    Pillow and torchvision round resized pixels differently, so Pillow is used even where
    torchvision is installed. The video half of a processor needs torchvision and is left out
    without it. Raises `ModelError` where files are missing or damaged.
    """
    if type(config) not in PROCESSOR_MAPPING:
        raise ModelError(f"{folder}: model type {config.model_type!r} has no processor")
    processor_class: Any = PROCESSOR_MAPPING[type(config)]
    if not is_torchvision_available():
        processor_class = without_video(_PICTURES_ONLY.get(config.model_type, processor_class))
    try:
        processor: ProcessorMixin = processor_class.from_pretrained(folder, local_files_only=True)
        processor.image_processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, backend="pil"
        )
    except Exception as error:
        # Besides OSError and ValueError, the tokenizers library raises bare Exceptions.
        raise ModelError(
            f"{folder} has no usable processor ({' '.join(str(error).split())[:200]}); expected "
            "the tokenizer and preprocessor_config.json beside the weights"
        ) from error
    if processor.chat_template is None:
        processor.chat_template = processor.tokenizer.chat_template
    if isinstance(processor.chat_template, str):
        check_template(processor.chat_template, folder)
    _check_image_token(processor, config, folder)
    _check_pictures(processor, config, folder)
    return processor


def _check_image_token(processor: ProcessorMixin, config: PreTrainedConfig, folder: Path) -> None:
    """Raise `ModelError` where tokenizer and configuration have different image tokens."""
    tokenizer = processor.tokenizer
    ids = {
        token: tokenizer.convert_tokens_to_ids(token)
        for token in (
            getattr(processor, "image_token", None),
            getattr(tokenizer, "image_token", None),
        )
        if isinstance(token, str)
    }
    expected = getattr(config, "image_token_id", None)
    # Gemma3's processor calls the token before a picture its image token; the other one is checked.
    if ids and expected is not None and expected not in ids.values():
        token, known = next(iter(ids.items()))
        raise ModelError(
            f"{folder}: the tokenizer's id of the image token {token!r} is {known}, config.json's "
            f"image_token_id is {expected}: no picture would be seen; take tokenizer and "
            "config.json from the same checkpoint"
        )


def _check_pictures(processor: ProcessorMixin, config: PreTrainedConfig, folder: Path) -> None:
    """Raise `ModelError` for a division by 0, or for another patch size than the tower's.

    Qwen's processors cut patches themselves; the others leave that to the model.
    """
    settings = processor.image_processor.to_dict()
    if 0 in (settings.get("image_std") or ()):
        raise ModelError(
            f"{folder}: preprocessor_config.json's image_std is {list(settings['image_std'])}, "
            "expected numbers above 0"
        )
    if "merge_size" not in settings:
        return
    vision = config.vision_config
    for key, name in (
        ("patch_size", "patch_size"),
        ("merge_size", "spatial_merge_size"),
        ("temporal_patch_size", "temporal_patch_size"),
    ):
        expected = getattr(vision, name, None)
        if expected is not None and settings.get(key) != expected:
            raise ModelError(
                f"{folder}: preprocessor_config.json's {key} is {settings.get(key)!r}, "
                f"config.json's vision_config.{name} is {expected}; take both from the same "
                "checkpoint"
            )


def without_video(processor_class: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """A processor class that takes pictures and text only; everything else is inherited."""

    class PictureProcessor(processor_class):  # type: ignore[misc, valid-type]
        video_processor = NoVideo(
            processor_class.__name__,
            takes_videos="video_processor" in processor_class.get_attributes(),
        )

        @wraps(processor_class.__call__)
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            if kwargs.get("videos") is not None:  # some families would silently ignore them
                self.video_processor(kwargs["videos"])
            return super().__call__(*args, **kwargs)

        @classmethod
        def get_attributes(cls) -> list[Any]:
            return [name for name in super().get_attributes() if name != "video_processor"]

        @classmethod
        def _get_arguments_from_pretrained(cls, *args: Any, **kwargs: Any) -> list[Any]:
            loaded = iter(super()._get_arguments_from_pretrained(*args, **kwargs))
            parts = processor_class.get_attributes()
            return [None if part == "video_processor" else next(loaded) for part in parts]

    return PictureProcessor


def picture_settings(processor: ProcessorMixin) -> dict[str, Any]:
    """A processor's settings for pictures: its image processor's, then its own defaults.

    A processor passes its defaults, which its user may have set, with every call; they override the
    image processor's.
    """
    settings: dict[str, Any] = processor.image_processor.to_dict()
    return {**settings, **getattr(processor, "images_kwargs", {})}
