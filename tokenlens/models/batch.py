"""Batches: samples prepared as a model's inputs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from PIL.Image import Image
from transformers import BatchFeature

from tokenlens.errors import SampleError
from tokenlens.models.layout import Layout
from tokenlens.models.vlm import VLM
from tokenlens.samples.sample import Sample


@dataclass(frozen=True)
class Batch:
    """Samples with their pictures opened and their prompts made.

    Attributes:
        samples: the samples.
        pictures: all pictures of each sample, RGB as displayed; empty for text alone.
        layouts: the visual tokens of each sample, positions in its own prompt (no padding).
        inputs: the model's inputs, left-padded.
    """

    samples: tuple[Sample, ...]
    pictures: tuple[tuple[Image, ...], ...]
    layouts: tuple[Layout, ...]
    inputs: BatchFeature

    @property
    def sizes(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """(width, height) in pixels of all pictures of each sample."""
        return tuple(tuple(one.size for one in pictures) for pictures in self.pictures)

    @classmethod
    def of(cls, vlm: VLM, samples: Sequence[Sample], image_scale: float | None = None) -> Self:
        """Open the pictures of `samples` and make one batch of inputs.

        `image_scale` is the share of its tokens that every picture is shrunk to; see `VLM.prepare`.
        Raises `SampleError` with the sample whose picture cannot be used.
        """
        opened = tuple(sample.open_images() for sample in samples)
        try:
            inputs = vlm.prepare(
                opened, [sample.question for sample in samples], image_scale=image_scale
            )
        except SampleError:
            for sample, pictures in zip(samples, opened, strict=True):
                _refuse_alone(vlm, sample, pictures)
            raise
        padding = (inputs["attention_mask"] == 0).sum(dim=1).tolist()
        layouts = tuple(
            replace(layout, positions=layout.positions - count)
            for layout, count in zip(vlm.layout(inputs), padding, strict=True)
        )
        return cls(tuple(samples), opened, layouts, inputs)


def mean_visual_tokens(vlm: VLM, samples: Sequence[Sample], most: int = 32) -> int:
    """Visual tokens of a sample: the rounded mean over those with a picture, at least one.

    Of more than `most` samples, as many evenly spaced ones are prepared; none is run. Raises
    `SampleError` with the sample whose picture cannot be used.
    """
    pictured = [sample for sample in samples if sample.pictures]
    count = min(most, len(pictured))
    taken = [pictured[place * len(pictured) // count] for place in range(count)]
    tokens = [len(Batch.of(vlm, [sample]).layouts[0].positions) for sample in taken]
    return max(1, round(sum(tokens) / max(1, count)))


def _refuse_alone(vlm: VLM, sample: Sample, pictures: tuple[Image, ...]) -> None:
    """Prepare one sample alone; raise the processor's error with its id where it is refused."""
    try:
        vlm.prepare(pictures, sample.question)
    except SampleError as error:
        paths = [str(one) for one in sample.pictures if not isinstance(one, Image)]
        where = "".join(f", {path}" for path in paths[:3])
        raise SampleError(f"sample {sample.id!r}{where}: {error}") from error
