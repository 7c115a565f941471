"""Samples made ready once for all arms that are to answer them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tokenlens.models.batch import Batch
from tokenlens.models.vlm import VLM
from tokenlens.probing.recording import probe
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule


class Prepared:
    """A batch of samples, made ready when an arm first asks for it.

    The one place where a schedule says how pictures are prepared: arms that are shown pictures of
    the same share share the batch.
    """

    def __init__(self, vlm: VLM, samples: Sequence[Sample]) -> None:
        self._vlm = vlm
        self._samples = samples
        self._batches: dict[float | None, Batch] = {}
        self._recorded: dict[float | None, list[Tensor]] = {}

    def batch(self, schedule: Schedule | None) -> Batch:
        """The samples as an arm is shown them. Raises `SampleError` for one that is unusable."""
        share = None if schedule is None else schedule.image_scale
        if share not in self._batches:
            self._batches[share] = Batch.of(self._vlm, self._samples, share)
        return self._batches[share]

    def recorded(self, schedule: Schedule | None) -> list[Tensor] | None:
        """The unpruned model's importance of every sample, where the schedule asks for it."""
        if schedule is None or all(one.query != "recorded" for one in schedule.scorers):
            return None
        if schedule.image_scale not in self._recorded:
            with probe(self._vlm) as recording, torch.inference_mode():
                inputs = self.batch(schedule).inputs
                self._vlm.model(**inputs, use_cache=False, logits_to_keep=1)
            self._recorded[schedule.image_scale] = recording.importance
        return self._recorded[schedule.image_scale]
