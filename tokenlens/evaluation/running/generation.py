"""Generation of answers by a model, unpruned or pruned, with the cost of each answer."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BatchFeature

from tokenlens.evaluation.running.finite_logits import FiniteLogits
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.models.batch import Batch
from tokenlens.models.greedy import greedy_config, until_end
from tokenlens.models.structure import visual_mask
from tokenlens.models.vlm import VLM
from tokenlens.probing.recording import probe
from tokenlens.pruning.cost.decoder_cost import Cost, decoder_cost
from tokenlens.pruning.engine import prune
from tokenlens.pruning.trace import Trace
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule


@dataclass(frozen=True)
class Answer:
    """A model's answer to one sample, and its cost.

    Attributes:
        prediction: the answer without special tokens.
        new_tokens: tokens generated, the end of the sequence included.
        prefill_s: seconds from the call to the end of the batch's first forward pass, vision tower
            included, shared out evenly over its samples. NaN where it was not timed.
        decode_s: seconds from there to the batch's last token, shared out likewise.
        tokens_per_layer: visual tokens entering each decoder layer, merged ones counted.
        macs: MACs of the decoder's prefill, scoring and merging included.
        scoring_macs: the part of them spent on scoring.
        merging_macs: the part of them spent on merging.
        kv_bytes: bytes of the key-value cache after the prefill.
        selected: per stage, the positions selected, in the sample's own sequence (no padding).
    """

    prediction: str
    new_tokens: int
    prefill_s: float
    decode_s: float
    tokens_per_layer: list[int]
    macs: float
    scoring_macs: float
    merging_macs: float
    kv_bytes: float
    selected: list[list[int]]


def answer(
    vlm: VLM,
    batch: Batch,
    schedule: Schedule | None = None,
    *,
    max_new_tokens: int = 32,
    any_model: bool = False,
    recorded: Sequence[Tensor] | None = None,
) -> list[Answer]:
    """Answer a batch by greedy decoding, pruned by `schedule` where there is one.

    Sampling, beams and penalties of the model's own generation config are ignored: a repetition
    penalty counts the padding, so an answer would depend on the rest of its batch. Image tokens are
    never generated.
    """
    with ExitStack() as stack:
        trace: Trace | None = None
        if schedule is not None:
            trace = stack.enter_context(
                prune(vlm, schedule, any_model=any_model, recorded=recorded)
            )
        stack.enter_context(torch.inference_mode())
        with _stopwatch(vlm.model) as laps:
            sequences = vlm.model.generate(
                **batch.inputs,
                generation_config=greedy_config(vlm, max_new_tokens),
                logits_processor=[FiniteLogits()],
            )
    if trace is None:
        tokens, cost = _unpruned(vlm, batch.inputs)
        stages = []
    else:
        tokens, cost = trace.tokens_per_layer, trace.cost
        stages = [stage.selected for stage in trace.stages]
    length = batch.inputs["input_ids"].shape[1]
    padding = (length - batch.inputs["attention_mask"].sum(dim=1)).tolist()
    generated = [until_end(vlm, row) for row in sequences[:, length:]]
    shares = [lap / len(batch.samples) for lap in laps.seconds]
    return [
        Answer(
            prediction=text,
            new_tokens=len(generated[index]),
            prefill_s=shares[0],
            decode_s=shares[1],
            tokens_per_layer=tokens[index].tolist(),
            macs=float(cost.total_macs[index]),
            scoring_macs=float(cost.scoring_macs[index]),
            merging_macs=float(cost.merging_macs[index]),
            kv_bytes=float(cost.kv_bytes[index]),
            selected=[(stage[index] - padding[index]).tolist() for stage in stages],
        )
        for index, text in enumerate(vlm.decode(generated))
    ]


def answer_tokens(vlm: VLM, inputs: Mapping[str, Any], max_new_tokens: int) -> list[list[int]]:
    """The token ids of the unpruned model's answers, decoded as by `answer`; none is empty.

    `inputs` are those of a batch.
    """
    with torch.inference_mode():
        sequences = vlm.model.generate(
            **inputs,
            generation_config=greedy_config(vlm, max_new_tokens),
            logits_processor=[FiniteLogits()],
        )
    length = inputs["input_ids"].shape[1]
    return [until_end(vlm, row) for row in sequences[:, length:]]


class Prepared:
    """A batch of samples, prepared when an arm first needs it.

    Only here does a schedule determine how pictures are prepared: arms with the same `image_scale`
    share one batch.

    Args:
        vlm: the model that answers.
        samples: the samples.
        batches: what is prepared already, by `image_scale`.
    """

    def __init__(
        self,
        vlm: VLM,
        samples: Sequence[Sample],
        batches: Mapping[float | None, Batch] | None = None,
    ) -> None:
        self._vlm = vlm
        self._samples = samples
        self._batches = dict(batches or {})
        self._recorded: dict[tuple[float | None, str], list[Tensor]] = {}

    def batch(self, schedule: Schedule | None) -> Batch:
        """The samples prepared for a schedule. Raises `SampleError` for an unusable one."""
        share = None if schedule is None else schedule.image_scale
        if share not in self._batches:
            self._batches[share] = Batch.of(self._vlm, self._samples, share)
        return self._batches[share]

    def recorded(self, schedule: Schedule | None) -> list[Tensor] | None:
        """The unpruned model's importance of every sample, where the schedule needs it."""
        if schedule is None or all(one.query != "recorded" for one in schedule.scorers):
            return None
        importance = schedule.recorded_importance
        if (schedule.image_scale, importance) not in self._recorded:
            with probe(self._vlm, importance=importance) as recording, torch.inference_mode():
                inputs = self.batch(schedule).inputs
                self._vlm.model(**inputs, use_cache=False, logits_to_keep=1)
            self._recorded[schedule.image_scale, importance] = recording.importance
        return self._recorded[schedule.image_scale, importance]

    def answer(self, schedule: Schedule | None, options: RunOptions) -> list[Answer]:
        """The model's answers to the samples, pruned by `schedule` where there is one."""
        return answer(
            self._vlm,
            self.batch(schedule),
            schedule,
            max_new_tokens=options.max_new_tokens,
            any_model=options.any_model,
            recorded=self.recorded(schedule),
        )


def _unpruned(vlm: VLM, inputs: BatchFeature) -> tuple[Tensor, Cost]:
    """Visual tokens per layer (int64 [samples, layers]) and cost of a plain prefill."""
    visual = visual_mask(vlm.model, inputs["input_ids"]).sum(dim=1, keepdim=True)
    lengths = inputs["attention_mask"].sum(dim=1, keepdim=True)
    cost = decoder_cost(
        vlm.decoder_config,
        lengths.expand(-1, vlm.layers).cpu().numpy(),
        element_size=vlm.dtype.itemsize,
    )
    return visual.expand(-1, vlm.layers), cost


@dataclass
class _Laps:
    """Times in seconds: the call, the end of the first forward pass, and the end of generation."""

    moments: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """Durations of prefill and decoding."""
        start, first, end = self.moments
        return [first - start, end - first]


@contextmanager
def _stopwatch(model: nn.Module) -> Iterator[_Laps]:
    """Time the first forward pass apart from the rest, with a device synchronisation at each lap.

    `generate()` runs the vision tower before that pass, so the first lap begins with the call.
    """
    laps = _Laps()
    devices = {parameter.device for parameter in model.parameters()}
    accelerators = [device for device in devices if device.type not in ("cpu", "meta")]

    def lap(*_: object) -> None:
        for device in accelerators:
            torch.accelerator.synchronize(device)
        laps.moments.append(time.perf_counter())

    def first_lap(*_: object) -> None:
        if len(laps.moments) < 2:
            lap()

    handle = model.register_forward_hook(first_lap)
    try:
        lap()
        yield laps
        lap()
    finally:
        handle.remove()
