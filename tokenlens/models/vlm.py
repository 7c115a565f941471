"""A vision-language model with its processor, and the layout of its visual tokens."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from PIL.Image import Image
from torch import Tensor
from transformers import BatchFeature, PreTrainedConfig, PreTrainedModel, ProcessorMixin

from tokenlens.errors import ModelError, SampleError
from tokenlens.models.adapters import AdapterContext, find_adapter, required_shrinking
from tokenlens.models.fingerprint import saved_values, weights_hash
from tokenlens.models.inputs import PreparedInputs
from tokenlens.models.layout import Layout, find_layouts
from tokenlens.models.processing import picture_settings
from tokenlens.models.structure import decoder_layers, text_config, unwrap, video_mask, visual_mask
from tokenlens.samples.pictures import as_rgb, open_picture
from tokenlens.storage.files import hash_json

Picture = Image | Path | str
"""A picture in memory, or the path of one."""

_VOLATILE = ("_name_or_path", "architectures", "transformers_version", "dtype")
"""Keys of a configuration that differ between a model built, saved and loaded again."""
_SAMPLED_VALUES = 16
"""At least so many values of every weight go into the hash."""


class VLM:
    """A model in eval mode with the processor that makes its inputs.

    Attributes:
        model: the Hugging Face model.
        processor: its Hugging Face processor; None where only the model is at hand.
        id: bundled name, hub id or absolute path of a directory; None for a wrapped model.
        revision: commit of a hub model, else None.
        quantize: how `load` quantised it, by name; None where it did not.
        adapter: absolute path of the adapter that `load` put onto it; None without one.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the word used in schedules and manifests
        revision: str | None = None,
        quantize: str | None = None,
        adapter: str | None = None,
    ) -> None:
        self.model = unwrap(model).eval()
        self.processor = processor
        self.id = id
        self.revision = revision
        self.quantize = quantize
        self.adapter = adapter

    @classmethod
    def wrap(
        cls,
        model: PreTrainedModel,
        processor: ProcessorMixin | None = None,
        *,
        id: str | None = None,  # noqa: A002
        revision: str | None = None,
    ) -> "VLM":
        """Wrap a Hugging Face model that the caller has; it is put into eval mode.

        Raises `ModelError` where it is not a vision-language model.
        """
        return cls(model, processor, id=id, revision=revision)

    @property
    def architecture(self) -> str:
        """The Hugging Face class of the model."""
        return type(self.model).__name__

    @property
    def decoder_config(self) -> PreTrainedConfig:
        """The configuration of the text decoder."""
        return text_config(self.model)

    @property
    def layers(self) -> int:
        """The number of decoder layers."""
        return len(decoder_layers(self.model))

    @property
    def device(self) -> torch.device:
        """The device of the inputs; the CPU where no weights are loaded (see `load_outline`)."""
        device = self.model.device
        return torch.device("cpu") if device.type == "meta" else device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def config_hash(self) -> str:
        """16 hexadecimal digits that identify a checkpoint, whatever dtype it is loaded in.

        Covers the configuration, every weight's name and shape and some of its values (a bfloat16
        checkpoint is the same in float32; a float32 one rounded to bfloat16 is another), offloaded
        ones included. Computed at each call; `weights_hash` covers every value.
        """
        shapes, samples = {}, {}
        for name, weight in saved_values(self.model):
            shapes[name] = tuple(weight.shape)
            if not weight.is_meta:
                step = max(1, weight.numel() // _SAMPLED_VALUES)
                samples[name] = weight.reshape(-1)[::step].to("cpu", torch.float32)
        digest = hashlib.sha256()
        for name in sorted(shapes):
            digest.update(f"{name} {shapes[name]}\n".encode())
        for name in sorted(samples):
            digest.update(samples[name].numpy().tobytes())
        config = _stable(self.model.config.to_dict())
        return hash_json([self.architecture, config, digest.hexdigest()])

    @property
    def weights_hash(self) -> str:
        """Hash of every value of every weight, 16 hexadecimal digits, computed at each call.

        About a second per GiB; see `tokenlens.models.fingerprint`.
        """
        return weights_hash(self.model)

    def prepare(
        self,
        image: Picture | Sequence[Picture] | Sequence[Sequence[Picture]],
        question: str | Sequence[str],
        *,
        image_scale: float | None = None,
        picture: float | None = None,
    ) -> BatchFeature:
        """The model's inputs for one question, or a left-padded batch for a list of them.

        Args:
            image: for one question its picture (or the list of its pictures); for a list of
                questions a list of the same length.
            question: the question, put into the model's chat template after the pictures.
            image_scale: the share of its visual tokens, in (0, 1], that every picture is shrunk to
                before it is processed, as near as whole rows and columns allow; never enlarged.
                None or 1.0 leaves it unchanged.
            picture: the former name of `image_scale`; one of the two may be given.

        Returns:
            Tensors on the model's device, floating-point ones in its dtype. They are the same with
            and without torchvision.

        Raises:
            ModelError: the model came without a processor, its processor has no chat template, or
                smaller pictures of its family are not fewer tokens.
            SampleError: a picture that cannot be used, or lists of unequal length.
        """
        processor = self._required_processor()
        images, questions = (
            ([image], [question]) if isinstance(question, str) else (image, question)
        )
        if not isinstance(images, Sequence) or isinstance(images, str):
            raise SampleError(
                f"a list of {len(questions)} questions needs a list of as many pictures, got one"
            )
        if len(images) != len(questions):
            raise SampleError(
                f"every question needs its picture: got {len(images)} pictures for "
                f"{len(questions)} questions"
            )
        if not questions:
            raise SampleError("cannot prepare an empty list of questions; give at least one")
        opened = [_opened(pictures) for pictures in images]
        sizes = tuple(one.size for pictures in opened for one in pictures)
        opened, settings = self._shrunk(opened, _one_scale(image_scale, picture))
        try:
            inputs: Any = processor.apply_chat_template(
                [_conversation(*pair) for pair in zip(opened, questions, strict=True)],
                chat_template=self._chat_template(processor),
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={
                    "padding": True,
                    "padding_side": "left",
                    **({"images_kwargs": settings} if settings else {}),
                },
            )
        except TemplateError as error:
            raise ModelError(f"the model's chat template is broken: {_one_line(error)}") from error
        except ValueError as error:
            raise SampleError(f"the processor refused a sample: {_one_line(error)}") from error
        except Exception as error:
            # Settings may raise anything; the tokenizers library raises bare Exceptions.
            reason = f"{type(error).__name__}: {_one_line(error)}"
            raise ModelError(
                f"the processor of this {self.architecture} cannot make inputs ({reason[:200]}); "
                "its settings do not fit pictures or text, see preprocessor_config.json and the "
                "tokenizer's files"
            ) from error
        inputs.pop("labels", None)  # PaliGemma's processor adds them to every prompt
        prepared = PreparedInputs(inputs, sizes=sizes, settings=settings)
        return prepared.to(self.device, dtype=self.dtype)

    def _shrunk(
        self, opened: list[list[Image]], share: float | None
    ) -> tuple[list[list[Image]], dict[str, Any]]:
        """The pictures of every sample at a share of their tokens, and the settings for that."""
        if share is None or share == 1:
            return opened, {}
        if not 0 < share < 1:
            raise SampleError(
                f"image_scale: got {share!r}, expected a ratio in (0, 1] such as 0.33"
            )
        settings = picture_settings(self._required_processor())
        shrinking = required_shrinking(self.model.config)
        flat = [picture for pictures in opened for picture in pictures]
        shrunk = shrinking.pictures(self.model.config, settings, flat, share)
        left = iter(shrunk.images)
        return [[next(left) for _ in pictures] for pictures in opened], dict(shrunk.settings)

    def layout(
        self, inputs: Mapping[str, Any], *, sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Layout]:
        """For every sample of prepared inputs, its visual tokens and the boxes they cover.

        Visual tokens are the positions of the model's own image token, and of its video token if it
        has one: LLaVA-NeXT's newline tokens are among them, Pixtral's break tokens are not. For a
        family without an adapter the tokens are known but not their boxes: warns with
        `UnknownLayoutWarning`.

        Args:
            inputs: from `prepare`, or made in another way.
            sizes: (width, height) of every original picture, in order, over the whole batch. What
                `prepare` returns carries them; only some families need them.

        Raises:
            ModelError: the numbers of visual tokens in pictures and prompt differ, or the inputs
                lack what the family's boxes depend on.
        """
        known = getattr(inputs, "sizes", None) if sizes is None else sizes
        given = AdapterContext(
            config=self.model.config,
            inputs=inputs,
            sizes=None if known is None else tuple(known),
            settings=None
            if self.processor is None
            else {**picture_settings(self.processor), **getattr(inputs, "settings", {})},
        )
        ids = inputs["input_ids"].cpu()
        return find_layouts(given, visual_mask(self.model, ids), video_mask(self.model, ids))

    def decode(self, token_ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Text of generated tokens [batch, length], without special tokens and outer spaces."""
        processor = self._required_processor()
        return [
            text.strip() for text in processor.batch_decode(token_ids, skip_special_tokens=True)
        ]

    def _chat_template(self, processor: ProcessorMixin) -> Any:
        """The processor's own template, or the family's where its processors have none."""
        adapter = find_adapter(self.model.config)
        template = processor.chat_template or (adapter and adapter.chat_template)
        if template is None:
            raise ModelError(
                f"the processor of this {self.architecture} has no chat template, which turns a "
                "question into a prompt; set processor.chat_template"
            )
        return template

    def _required_processor(self) -> ProcessorMixin:
        if self.processor is None:
            raise ModelError(
                f"this {self.architecture} was wrapped without a processor: give one with "
                "VLM.wrap(model, processor), or make the inputs yourself"
            )
        return self.processor


def _one_scale(image_scale: float | None, picture: float | None) -> float | None:
    if image_scale is not None and picture is not None:
        raise SampleError("image_scale and picture, its former name, exclude each other: give one")
    return picture if image_scale is None else image_scale


def _opened(pictures: Any) -> list[Image]:
    many = isinstance(pictures, Sequence) and not isinstance(pictures, str)
    return [
        as_rgb(picture) if isinstance(picture, Image) else open_picture(Path(picture))
        for picture in (pictures if many else [pictures])
    ]


def _conversation(pictures: Sequence[Image], question: str) -> list[dict[str, Any]]:
    content = [{"type": "image", "image": image} for image in pictures]
    return [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]


def _stable(config: Any) -> Any:
    """A configuration without the keys that differ between two loads of one checkpoint."""
    if not isinstance(config, dict):
        return str(config) if isinstance(config, torch.dtype) else config
    return {key: _stable(value) for key, value in config.items() if key not in _VOLATILE}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
