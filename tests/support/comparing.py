"""Comparing the engine and the probe with what does not share their code, for any family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

import tokenlens as tl
from tests.references.full_length import FullLength
from tests.support.families import Case
from tests.support.true_float64 import true_float64
from tokenlens.pruning.trace import Trace
from tokenlens.schedule import Schedule

STEPS = 8


def tokens_for(case: Case, steps: int = STEPS, seed: int = 5) -> Tensor:
    """Text tokens to feed after the prompts, int64 [batch, steps]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, 64, (len(case.alone), steps), generator=generator)


def read(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], tokens: Tensor, *, chunk: int = 1
) -> tuple[Tensor, DynamicCache]:
    """Logits [batch, 1 + steps, vocabulary] after the prompt and each of `tokens`; the cache."""
    cache = DynamicCache(config=model.config.get_text_config())
    first = model(**inputs, past_key_values=cache).logits[:, -1:]
    return torch.cat(
        [first, go_on(model, inputs["attention_mask"], tokens, cache, chunk)], 1
    ), cache


def go_on(
    model: PreTrainedModel, mask: Tensor, tokens: Tensor, cache: DynamicCache, chunk: int = 1
) -> Tensor:
    """Logits [batch, steps, vocabulary] after each of `tokens`, `chunk` at a time."""
    empty = (len(tokens), 0, model.config.get_text_config().vocab_size)
    found = [torch.empty(empty, dtype=model.dtype, device=tokens.device)]
    for part in tokens.split(chunk, dim=1) if tokens.shape[1] else ():
        options = {}
        deltas = getattr(model.model, "rope_deltas", None)
        if deltas is not None:  # their decoders do not count from the cache in a padded batch
            places = mask.sum(1, keepdim=True) + torch.arange(part.shape[1]).to(mask) + deltas
            options["position_ids"] = places.expand(3, -1, -1)
        mask = torch.cat([mask, torch.ones_like(part)], dim=1)
        output = model(input_ids=part, attention_mask=mask, past_key_values=cache, **options)
        found.append(output.logits)
    return torch.cat(found, dim=1)


def references(case: Case, plan: Schedule) -> list[FullLength]:
    """Every sample under `plan` at full length."""
    return [FullLength(case.model, inputs, plan) for inputs in case.alone]


def _told(case: Case, plan: Schedule, trace: Trace) -> list[FullLength]:
    """The same where scores are drawn by chance: the reference is told them."""
    return [
        FullLength(
            case.model,
            inputs,
            plan,
            drawn=[
                dict(
                    zip(
                        (at.candidates[row] - offset).tolist(),
                        at.scores[row].tolist(),
                        strict=True,
                    )
                )
                for at in trace.stages
            ],
        )
        for row, (inputs, offset) in enumerate(zip(case.alone, case.offsets, strict=True))
    ]


def _misled(case: Case, honest: Sequence[FullLength], index: int) -> list[FullLength]:
    """References that keep the tokens with the lowest scores at stage `index`: a control."""
    found = []
    for reference, inputs in zip(honest, case.alone, strict=True):
        record = reference.stages[index]
        ranked = sorted(zip(record.scores, record.candidates, strict=True))
        worst = sorted(place for _, place in ranked[: len(record.selected)])
        found.append(FullLength(case.model, inputs, reference.schedule, {index: worst}))
    return found


@dataclass(frozen=True)
class Difference:
    """How far the engine is from the reference.

    Attributes:
        logits: largest, over prefill, decoding and samples.
        scores: largest, of importance (which the trace holds in float32).
        choices: what was decided otherwise, one line each.
    """

    logits: float
    scores: float
    choices: tuple[str, ...]


@torch.no_grad()
def compare(
    case: Case,
    plan: Schedule,
    *,
    steps: int = STEPS,
    chunk: int = 1,
    worst_at: int | None = None,
) -> Difference:
    """The engine on the padded batch, and the reference on each sample alone.

    The control: at stage `worst_at` the reference keeps the tokens with the lowest scores.
    """
    tokens = tokens_for(case, steps)
    with true_float64():
        with tl.prune(case.model, plan) as trace:
            logits, _ = read(case.model, case.inputs, tokens, chunk=chunk)
        drawn = plan.scorer.query == "random"
        expected = _told(case, plan, trace) if drawn else references(case, plan)
        if worst_at is not None:
            expected = _misled(case, expected, worst_at)
        largest = difference(logits, expected, tokens)
    scores, choices = 0.0, []
    for row, reference in enumerate(expected):
        tokens_entering = trace.tokens_per_layer[row].tolist()
        if tokens_entering != reference.tokens_per_layer:
            choices.append(f"{row}: {tokens_entering} for {reference.tokens_per_layer} tokens")
        readable = trace.readable_per_layer[row].tolist()
        if readable != reference.readable_per_layer:
            choices.append(f"{row}: {readable} for {reference.readable_per_layer} readable")
        for found, record in zip(trace.stages, reference.stages, strict=True):
            for what in ("candidates", "selected", "merged"):
                places = (getattr(found, what)[row] - case.offsets[row]).tolist()
                if places != getattr(record, what):
                    choices.append(f"{row}: {what} {places} for {getattr(record, what)}")
            if not choices:
                error = found.scores[row].double() - torch.tensor(record.scores).double()
                scores = max(scores, float(error.abs().max()))
    return Difference(largest, scores, tuple(choices))


@torch.no_grad()
def difference(logits: Tensor, expected: Sequence[FullLength], tokens: Tensor) -> float:
    """The largest over all samples: after the prompt, and after each of `tokens`."""
    errors = []
    for row, reference in enumerate(expected):
        steps = logits.shape[1] - 1
        later = [reference.extend(tokens[row, :steps])] if steps else []
        errors.append((logits[row] - torch.cat([reference.logits[None], *later])).abs().max())
    largest = torch.stack(errors).max()
    return float(largest) if torch.isfinite(largest) else float("inf")


@torch.no_grad()
def eager_maps(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Attention of one unpadded sample as transformers shows it, [layers, heads, n, n]."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        maps = model(**inputs, output_attentions=True).attentions
    finally:
        config._attn_implementation = before
    return torch.cat(list(maps))


@torch.no_grad()
def probe_difference(case: Case, *, row_from_last: int = 1) -> float:
    """Largest difference of the probe's rows, per head, from eager attention's last row."""
    image = case.model.config.image_token_id
    errors = []
    with true_float64():
        with tl.probe(case.model, per_head=True) as recording:
            case.model(**case.inputs)
        for row, inputs in enumerate(case.alone):
            visual = inputs["input_ids"][0] == image
            expected = eager_maps(case.model, inputs)[:, :, -row_from_last, visual]
            places = visual.nonzero()[:, 0] + case.offsets[row]
            if not torch.equal(recording.positions[row], places):
                return float("inf")
            errors.append((recording.per_head[row] - expected).abs().max())
    return float(torch.stack(errors).max())


@torch.no_grad()
def keeping_all_is_bit_identical(case: Case, keep_all: Schedule, dtype: torch.dtype) -> bool:
    """Whether prefill and decoding give the same bits when every token is kept."""
    tokens = tokens_for(case)
    inputs = case.inputs.copy()
    for name, value in inputs.items():
        inputs[name] = value.to(dtype) if value.is_floating_point() else value
    model = case.model.to(dtype)
    try:
        plain, _ = read(model, inputs, tokens)
        with tl.prune(model, keep_all):
            pruned, _ = read(model, inputs, tokens)
    finally:
        model.double()
    return torch.equal(plain, pruned)


@torch.no_grad()
def eager_steps(model: PreTrainedModel, inputs: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    """Eager attention of one unpadded sample's last token, and of each of `tokens` fed after it.

    [layers, heads, 1 + steps, visual tokens]; keys that a sliding window has dropped are 0.
    """
    config = model.config.get_text_config()
    visual = (inputs["input_ids"][0] == model.config.image_token_id).nonzero()[:, 0]
    before, config._attn_implementation = config._attn_implementation, "eager"
    cache = DynamicCache(config=config)
    steps, mask = [], inputs["attention_mask"]
    try:
        maps = model(**inputs, past_key_values=cache, output_attentions=True).attentions
        steps.append([layer[0, :, -1] for layer in maps])
        for token in tokens:
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            given = {"input_ids": token.view(1, 1), "attention_mask": mask}
            deltas = getattr(model.model, "rope_deltas", None)
            if deltas is not None:
                given["position_ids"] = (mask.sum(1, keepdim=True) - 1 + deltas).expand(3, -1, -1)
            maps = model(**given, past_key_values=cache, output_attentions=True).attentions
            steps.append([layer[0, :, -1] for layer in maps])
    finally:
        config._attn_implementation = before
    length = inputs["input_ids"].shape[1]
    return torch.stack(
        [
            torch.stack([_columns(row, visual, length + step) for row in layers])
            for step, layers in enumerate(steps)
        ],
        dim=2,
    )


def _columns(row: Tensor, visual: Tensor, length: int) -> Tensor:
    """Of a row [heads, keys] those of `visual`, where the first of `length` keys may be gone."""
    whole = torch.nn.functional.pad(row, (length - row.shape[-1], 0))
    return whole[:, visual]
