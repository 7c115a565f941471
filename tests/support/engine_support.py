"""What the engine's tests share: schedules, batches, and decoding by hand."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import BatchFeature, DynamicCache, PreTrainedModel

from tests.support.builders import fake_inputs, tiny_qwen2_vl
from tokenlens.schedule import Schedule

LAYERS = 6

ONE = (((4, 5),),)
RAGGED = (((3, 4),), ((5, 6),), ((2, 2), (3, 3)))
"""Three samples with 12, 30 and 13 visual tokens, the last in two pictures."""


def model64(seed: int = 0) -> PreTrainedModel:
    return tiny_qwen2_vl(layers=LAYERS, seed=seed, dtype=torch.float64)


def schedule(*stages: dict, layers: int = LAYERS, **scorer: object) -> Schedule:
    return Schedule(
        schema=1,
        method="test",
        model={"architecture": "Qwen2VLForConditionalGeneration", "layers": layers},
        scorer=scorer,
        stages=list(stages),
    )


def stage(score_layer: int, when: str, keep: int | float, disposal: str = "drop", **more) -> dict:
    return {
        "score_layer": score_layer,
        "when": when,
        "keep": keep,
        "disposal": disposal,
        **more,
    }


KEEP_EVERYTHING = schedule(
    stage(1, "after", 1.0, "bypass", merge=0.2),
    stage(3, "before", 1.0, "merge", merge=0.2),
    stage(5, "before", 1.0),
)

SCHEDULES = {
    "drop early": schedule(stage(1, "after", 0.5)),
    "drop late": schedule(stage(5, "before", 0.3)),
    "drop three": schedule(stage(1, "after", 0.7), stage(3, "before", 0.45), stage(5, "after", 4)),
    "merge early": schedule(stage(1, "after", 0.4, "merge", merge=0.3)),
    "merge late": schedule(stage(5, "after", 0.3, "merge", merge=2)),
    "merge three": schedule(
        stage(1, "after", 0.6, "merge", merge=0.5),
        stage(3, "before", 0.4, "merge", merge=0.3),
        stage(5, "after", 3, "merge", merge=1),
    ),
    "bypass early": schedule(stage(1, "after", 0.4, "bypass", merge=0.3), stage(3, "before", 0.3)),
    "bypass late": schedule(stage(4, "after", 0.5, "bypass", merge=0.2), stage(6, "before", 3)),
    "bypass three": schedule(
        stage(1, "after", 0.5, "bypass", merge=0.1),
        stage(3, "before", 0.25, "bypass", merge=0.2),
        stage(5, "before", 4, "drop"),
    ),
    "bypass into merge": schedule(
        stage(2, "before", 0.3, "bypass", merge=3),
        stage(4, "before", 0.3, "merge", merge=0.4),
        stage(5, "after", 5),
    ),
    "recycle early": schedule(stage(1, "after", 2, "recycle")),
    "recycle three": schedule(
        stage(1, "after", 0.5, "recycle"),
        stage(3, "before", 0.3, "recycle"),
        stage(5, "after", 3, "recycle"),
    ),
    "bypass unmerged": schedule(stage(1, "after", 0.4, "bypass"), stage(4, "before", 0.3)),
}


def batch(model: PreTrainedModel, grids: Sequence = RAGGED, seed: int = 1) -> BatchFeature:
    return fake_inputs(model, grids, seed=seed)


def tokens_for(inputs: BatchFeature, steps: int, seed: int = 5) -> Tensor:
    """Text tokens to feed after the prompt, int64 [batch, steps]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, 40, (len(inputs["input_ids"]), steps), generator=generator)


@torch.no_grad()
def run(
    model: PreTrainedModel, inputs: BatchFeature, tokens: Tensor, *, chunk: int = 1
) -> tuple[Tensor, Tensor, DynamicCache]:
    """Prefill, then decode `tokens` by hand, `chunk` at a time.

    Returns the last logits of the prefill [batch, vocabulary], those after each token
    [batch, steps, vocabulary], and the cache.
    """
    cache = DynamicCache(config=model.config.get_text_config())
    first = model(**inputs, past_key_values=cache).logits[:, -1]
    return first, extend(model, inputs["attention_mask"], tokens, cache, chunk=chunk), cache


@torch.no_grad()
def extend(
    model: PreTrainedModel,
    mask: Tensor,
    tokens: Tensor,
    cache: DynamicCache,
    *,
    chunk: int = 1,
) -> Tensor:
    """Logits after each of `tokens`, which follow what `cache` holds and `mask` describes."""
    found = [torch.empty(len(tokens), 0, model.config.get_text_config().vocab_size)]
    for part in tokens.split(chunk, dim=1) if tokens.shape[1] else ():
        past = mask.sum(1, keepdim=True)
        mask = torch.cat([mask, torch.ones_like(part)], dim=1)
        positions = past + torch.arange(part.shape[1]) + model.model.rope_deltas
        output = model(
            input_ids=part,
            attention_mask=mask,
            position_ids=positions.expand(3, -1, -1),
            past_key_values=cache,
        )
        found.append(output.logits)
    return torch.cat(found, dim=1)
