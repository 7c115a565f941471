"""What VisionZip reads from a vision tower and makes of it, in plain torch, on one sample.

The second-to-last layer is computed again from what went into it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.references.published_rules import Reading


@dataclass(frozen=True)
class Seen:
    """Of every visual token: attention it got [tokens], and its keys [tokens, size]."""

    attention: Tensor
    keys: Tensor


@torch.no_grad()
def seen_by_tower(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], *, class_row: bool = True, back: int = 2
) -> Seen:
    """What the layer that is `back` from the end of the tower sees in the picture's patches.

    `class_row` is of CLIP alone: by its class token; else by what patches get on average.
    """
    if hasattr(model.model, "visual"):
        return _qwen(model, inputs, back)
    layer = model.model.vision_tower.encoder.layers[-back]
    (hidden, *_), _ = _entering(model, layer, inputs)
    states = layer.layer_norm1(hidden)
    heads = layer.self_attn.num_heads
    query, key = (
        project(states).unflatten(-1, (heads, -1)).transpose(1, 2)
        for project in (layer.self_attn.q_proj, layer.self_attn.k_proj)
    )
    maps = _maps(query, key)
    classes = int(model.config.vision_config.model_type == "clip_vision_model")
    attention = maps[:, :, 0].sum(1) if classes and class_row else maps.mean(1).mean(1)
    return Seen(attention[:, classes:].flatten(), key.mean(1)[:, classes:].flatten(0, 1))


def _qwen(model: PreTrainedModel, inputs: Mapping[str, Tensor], back: int) -> Seen:
    """Qwen2-VL: two rows and columns of patches, four in a row, are a token."""
    block = model.model.visual.blocks[-back]
    (hidden, *_), options = _entering(model, block, inputs)
    attention, keys = [], []
    cos, sin = (part[:, None] for part in options["position_embeddings"])
    query, key, _ = block.attn.qkv(block.norm1(hidden)).unflatten(-1, (3, 2, -1)).unbind(1)
    query, key = (
        part * cos + torch.cat([-part.chunk(2, -1)[1], part.chunk(2, -1)[0]], -1) * sin
        for part in (query, key)
    )
    counts = inputs["image_grid_thw"].prod(1).tolist()
    for one, other in zip(query.split(counts), key.split(counts), strict=True):
        maps = _maps(one.transpose(0, 1), other.transpose(0, 1))
        attention.append(maps.mean(0).mean(0).unflatten(0, (-1, 4)).mean(1))
        keys.append(other.mean(1).unflatten(0, (-1, 4)).mean(1))
    return Seen(torch.cat(attention), torch.cat(keys))


def _entering(model, layer, inputs):
    calls = []
    handle = layer.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
    )
    model(**inputs, use_cache=False)
    handle.remove()
    return calls[0]


def _maps(query: Tensor, key: Tensor) -> Tensor:
    return (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(-1)


def visionzip(
    reading: Reading, seen: Seen, dominant: int, contextual: int, *, by_keys: bool = True
) -> tuple[list[int], dict[int, Tensor]]:
    """The places of dominant tokens, and of contextual ones with what they are.

    Without `by_keys` tokens join the target that their own features are most like.
    """
    there = reading.visual.nonzero().flatten().tolist()
    features = reading.hidden[0, reading.visual]
    first = set(seen.attention.topk(dominant).indices.tolist())
    rest = [index for index in range(len(there)) if index not in first]
    step = max(1, len(rest) // contextual)
    targets = rest[::step][:contextual]
    joined = {target: [] for target in targets}
    compared = seen.keys if by_keys else features
    for index in set(rest) - set(targets):
        likeness = [
            torch.cosine_similarity(compared[index], compared[target], dim=0) for target in targets
        ]
        joined[targets[int(torch.stack(likeness).argmax())]].append(index)
    made = {
        there[target]: features[target]
        + (features[members].mean(0) if members else torch.zeros_like(features[target]))
        for target, members in joined.items()
    }
    return sorted(there[index] for index in first), made
