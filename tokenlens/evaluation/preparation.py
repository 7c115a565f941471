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

    The one place where a schedule can say how pictures are prepared: arms that say the same share
    the batch.
    """

    def __init__(self, vlm: VLM, samples: Sequence[Sample]) -> None:
        self._vlm = vlm
        self._samples = samples
        self._batch: Batch | None = None
        self._recorded: list[Tensor] | None = None

    def batch(self, schedule: Schedule | None) -> Batch:  # noqa: ARG002 - all prepare alike so far
        """The samples as an arm is shown them. Raises `SampleError` for one that is unusable."""
        if self._batch is None:
            self._batch = Batch.of(self._vlm, self._samples)
        return self._batch

    def recorded(self, schedule: Schedule | None) -> list[Tensor] | None:
        """The unpruned model's importance of every sample, where the schedule asks for it."""
        if schedule is None or schedule.scorer.query != "recorded":
            return None
        if self._recorded is None:
            with probe(self._vlm) as recording, torch.inference_mode():
                inputs = self.batch(schedule).inputs
                self._vlm.model(**inputs, use_cache=False, logits_to_keep=1)
            self._recorded = recording.importance
        return self._recorded
