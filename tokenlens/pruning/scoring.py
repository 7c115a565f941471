"""How visual tokens are scored: which rows of attention are read, and how they become importance.

A scorer is one function. Those in `ROWS` say which tokens' attention rows are averaged, those in
`DRAWS` give scores without any attention and may therefore stand before the decoder (layer 0).
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tokenlens.errors import PruningError
from tokenlens.pruning.attention import Heard
from tokenlens.pruning.tokens import Counts, Slots, arrange, take_rows
from tokenlens.schedule import Scorer

_LARGEST_BLOCK = 2**25
"""Attention weights held at once while many rows are read; more are read in turns."""


@dataclass(frozen=True)
class Prompt:
    """What a scorer may know of the padded input. Tensors are [batch, length].

    Attributes:
        ids: int64, token ids.
        visual: bool, attended visual tokens.
        attended: bool, False for padding.
        end: tokens of the padded prompt; those beyond (candidates of assisted decoding) are no
            part of it.
        recorded: per sample, importance [layers, n_visual] of the unpruned model; None where it
            was not recorded.
    """

    ids: Tensor
    visual: Tensor
    attended: Tensor
    end: int
    recorded: Sequence[Tensor] | None = None

    def within(self, rows: Tensor) -> Tensor:
        """`rows` without padding and without what lies beyond the prompt."""
        rows = rows & self.attended
        rows[:, self.end :] = False
        return rows


def last_row(prompt: Prompt, _: Tensor) -> Tensor:
    """The last prompt token (FastV as coded, SwiftVLM).

    Every function of `ROWS` is given the prompt and the embeddings [batch, length, hidden] that
    enter layer 1, and returns the rows to read as bool [batch, length].
    """
    rows = torch.zeros_like(prompt.attended)
    rows[:, prompt.end - 1] = True
    return rows


def text_rows(prompt: Prompt, _: Tensor) -> Tensor:
    """The text tokens after the last visual token: those that see the whole picture."""
    following = prompt.visual.flip(1).cumsum(1).flip(1) == 0
    rows = prompt.within(following & ~prompt.visual)
    without = ((~rows).all(1) & prompt.visual.any(1)).nonzero().flatten().tolist()
    if without:
        raise PruningError(
            f"sample {without[0]}: there is no text after its last visual token for scorer.query "
            "'text' or 'raters'; put the question after the picture, or use 'last' or 'all'"
        )
    return rows


def rater_rows(prompt: Prompt, embeddings: Tensor) -> Tensor:
    """SparseVLM's raters (arXiv 2410.04417, as coded): text tokens near to the picture.

    Softmax over the text tokens after the picture of visual·textᵀ, on the embeddings that enter
    layer 1, mean over visual tokens; raters are the text tokens above the mean. Deviation: where
    none is above it, all of them are.
    """
    text = text_rows(prompt, embeddings)
    n_text, n_visual = int(text.sum(1).max()), int(prompt.visual.sum(1).max())
    if n_text == 0 or n_visual == 0:
        return text
    places = torch.arange(text.shape[1], device=text.device).expand_as(text)
    text_order = arrange(places, text, n_text)
    visual_order = arrange(places, prompt.visual, n_visual)
    is_text, is_visual = text.gather(1, text_order), prompt.visual.gather(1, visual_order)
    states = embeddings.to(accumulation_dtype(embeddings))
    logits = take_rows(states, visual_order) @ take_rows(states, text_order).transpose(1, 2)
    blocked = torch.finfo(logits.dtype).min
    affinity = logits.masked_fill(~is_text[:, None], blocked).softmax(dim=2)
    ratings = (affinity * is_visual[:, :, None]).sum(1) / is_visual.sum(1, keepdim=True).clamp(
        min=1
    )
    mean = (ratings * is_text).sum(1, keepdim=True) / is_text.sum(1, keepdim=True).clamp(min=1)
    above = (ratings > mean) & is_text
    chosen = torch.zeros_like(text).scatter(1, text_order, above)
    return chosen.where(chosen.any(1, keepdim=True), text)


def all_rows(prompt: Prompt, _: Tensor) -> Tensor:
    """Every token of the prompt (FastV as published: the mean attention a token receives)."""
    return prompt.within(prompt.attended.clone())


class Turn(NamedTuple):
    """Which stage it is, counted from 0, and how many tokens it selects of each sample."""

    stage: int
    keeping: Counts


def random_scores(prompt: Prompt, slots: Slots, turn: Turn, scorer: Scorer) -> Tensor:
    """A draw for every candidate: float64 [batch, width].

    It depends on the seed, the stage and the sample's own token ids, not on batch or padding. Every
    function of `DRAWS` is given the prompt, the tokens there are, the turn and the scorer.
    """
    seed = scorer.seed or 0
    scores = torch.zeros(slots.index.shape, dtype=torch.float64)
    candidates = slots.visual.cpu()
    for sample, count in enumerate(slots.visuals):
        words = prompt.ids[sample][prompt.attended[sample]].cpu().numpy().tobytes()
        key = f"{seed} {turn.stage} {zlib.crc32(words)}".encode()
        generator = torch.Generator().manual_seed(zlib.crc32(key))
        drawn = torch.rand(count, generator=generator, dtype=torch.float64)
        scores[sample, candidates[sample]] = drawn
    return scores.to(slots.index.device)


def uniform_scores(_: Prompt, slots: Slots, turn: Turn, __: Scorer) -> Tensor:
    """1 for candidates at even distances, 0 for the others: float64 [batch, width].

    Of n candidates, in the order of the sequence, the k that are selected are those at
    floor((i + 1/2)·n/k).
    """
    scores = torch.zeros(slots.index.shape, dtype=torch.float64)
    candidates = slots.visual.cpu()
    for sample, (count, keep) in enumerate(zip(slots.visuals, turn.keeping, strict=True)):
        places = (2 * torch.arange(keep) + 1) * count // max(1, 2 * keep)
        scores[sample, candidates[sample].nonzero().flatten()[places]] = 1
    return scores.to(slots.index.device)


def recorded_scores(prompt: Prompt, slots: Slots, _: Turn, scorer: Scorer) -> Tensor:
    """What layer `scorer.layer` of the unpruned model saw in each candidate: [batch, width].

    The paper's capability profile prunes by it (SwiftVLM, arXiv 2602.03134, Fig. 4).
    """
    given = prompt.recorded
    if given is None or len(given) != len(slots.visuals) or scorer.layer is None:
        raise PruningError(
            f"scorer.query 'recorded' needs the importance of each of the {len(slots.visuals)} "
            f"samples, got {'none' if given is None else len(given)}; give "
            "tokenlens.prune(..., recorded=recording.importance) of a probe of the same inputs"
        )
    ordinal = prompt.visual.cumsum(1) - 1
    scores = torch.zeros(slots.index.shape, dtype=torch.float32)
    for sample, importance_of in enumerate(given):
        if importance_of.shape[-1] != int(prompt.visual[sample].sum()):
            raise PruningError(
                f"recorded[{sample}] is of {importance_of.shape[-1]} visual tokens, the sample has "
                f"{int(prompt.visual[sample].sum())}; probe the same inputs"
            )
        candidates = slots.visual[sample].cpu()
        places = ordinal[sample][slots.index[sample][slots.visual[sample]]].cpu()
        scores[sample, candidates] = importance_of[scorer.layer - 1].float().cpu()[places]
    return scores.to(slots.index.device)


ROWS: dict[str, Callable[[Prompt, Tensor], Tensor]] = {
    "last": last_row,
    "text": text_rows,
    "raters": rater_rows,
    "all": all_rows,
}
DRAWS: dict[str, Callable[[Prompt, Slots, Turn, Scorer], Tensor]] = {
    "random": random_scores,
    "uniform": uniform_scores,
    "recorded": recorded_scores,
}


@dataclass(frozen=True)
class Rows:
    """The rows to read, as slots: `order` int64 and `valid` bool, both [batch, rows].

    `counts` is how many are valid per sample.
    """

    order: Tensor
    valid: Tensor
    counts: Counts

    @classmethod
    def among(cls, slots: Slots, chosen: Tensor) -> "Rows":
        """Those of `slots` that are `chosen` (bool [batch, length], by position in the input)."""
        rows = chosen.gather(1, slots.index) & slots.present
        counts = tuple(rows.sum(1).tolist())
        order = arrange(slots.index, rows, max(counts))
        return cls(order, rows.gather(1, order), counts)


def importance(
    heard: Heard,
    rows: Rows,
    candidates: Tensor,
    visible: Callable[[Tensor], Tensor],
    *,
    heads: Sequence[int] | None = None,
    softmax: str = "all",
) -> Tensor:
    """Attention that each slot receives, mean over heads and rows.

    Args:
        heard: queries and keys of every slot at the scoring layer.
        rows: the rows to average.
        candidates: bool [batch, width], the visual tokens.
        visible: for slots [batch, n] of rows, which keys they see: bool or additive floats
            [batch, heads or 1, n, width].
        heads: heads to average, counted from 0; None for all.
        softmax: over "all" keys of a row, or over the "visual" ones.

    Returns:
        [batch, width] in float32, float64 for a float64 model.
    """
    dtype = accumulation_dtype(heard.query)
    key = heard.key.to(dtype).transpose(2, 3)
    batch, n_heads = heard.query.shape[:2]
    groups = n_heads // key.shape[1]
    total = torch.zeros(candidates.shape, dtype=dtype, device=key.device)
    block = max(1, _LARGEST_BLOCK // max(1, batch * n_heads * key.shape[-1]))
    for order, valid in zip(rows.order.split(block, 1), rows.valid.split(block, 1), strict=True):
        query = heard.query.gather(2, order[:, None, :, None].expand(-1, n_heads, -1, key.shape[2]))
        grouped = query.to(dtype).unflatten(1, (-1, groups)).flatten(2, 3)
        logits = (grouped @ key).unflatten(2, (groups, -1)).flatten(1, 2) * heard.scaling
        if heard.softcap is not None:
            logits = torch.tanh(logits / heard.softcap) * heard.softcap
        seen = visible(order)
        if softmax == "visual":
            seen = _only(seen, candidates)
        weights = _attention(logits, seen)
        if heads is not None:
            weights = weights[:, list(heads)]
        total += (weights.mean(1) * valid[:, :, None]).sum(1)
    return total / rows.valid.sum(1, keepdim=True).clamp(min=1)


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """float64 for float64 tensors, float32 for all others."""
    return torch.promote_types(tensor.dtype, torch.float32)


def select(
    scores: Tensor, candidates: Tensor, counts: Sequence[int], first: Tensor | None = None
) -> Tensor:
    """The `counts[i]` candidates of each sample with the highest scores, ties to the lower slot.

    Those of them that are in `first` (bool, like all others [batch, width]) go before the rest.

    >>> scores = torch.tensor([[0.1, 0.3, 0.3, 0.9]])
    >>> select(scores, torch.tensor([[True, True, True, False]]), [1])
    tensor([[False,  True, False, False]])
    """
    order = scores.masked_fill(~candidates, -torch.inf).argsort(dim=1, descending=True, stable=True)
    if first is not None:
        early = (first & candidates).gather(1, order).int()
        order = order.gather(1, early.argsort(dim=1, descending=True, stable=True))
    ranks = torch.empty_like(order)
    ranks.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    limits = torch.tensor(counts, device=order.device)[:, None]
    return candidates & (ranks < limits)


def _attention(logits: Tensor, seen: Tensor) -> Tensor:
    """Softmax over the keys that are seen; a row that sees none is zero."""
    blocked = torch.finfo(seen.dtype if seen.is_floating_point() else logits.dtype).min
    if seen.is_floating_point():
        logits, seen = logits + seen, seen > blocked / 2
    return logits.masked_fill(~seen, blocked).softmax(dim=-1) * seen


def _only(seen: Tensor, candidates: Tensor) -> Tensor:
    """`seen` without the keys that are no candidates."""
    hidden = ~candidates[:, None, None, :]
    return seen.masked_fill(hidden, 0 if seen.dtype == torch.bool else torch.finfo(seen.dtype).min)
