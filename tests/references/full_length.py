"""An independent reference for the pruning engine that works on every family.

Nothing is ever taken out of the sequence. The Hugging Face model reads one unpadded sample with all
its n tokens in every layer, and goes on from a full-length cache; an attention function of this
file's own hides from each layer the keys that are gone there. A merged token lives in the place of
its seed, a token that comes back has its hidden state put back into its place, and a layer that is
to score runs once more beside the others, without a cache. The schedule is followed as the design
document words it. No code is shared with the engine; `tests/references/reference.py`, which writes
Qwen2-VL's decoder out in plain torch, is a second opinion on this one.
"""

import copy
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tokenlens.schedule import MassKeep, Schedule, Stage

NAME = "full_length_reference"


@dataclass
class StageRecord:
    """Places in the unpadded sample, and scores, of one stage."""

    candidates: list[int]
    scores: list[float]
    selected: list[int]
    merged: list[int]


@dataclass
class _Aside:
    """Tokens that bypass: state and group (its seed, or None) by place; merged states by seed."""

    states: dict[int, Tensor]
    seed_of: dict[int, int | None]
    merged: dict[int, Tensor]
    renumbered: bool


@dataclass
class FullLength:
    """A model that has read one sample under a schedule, and can go on from there.

    Attributes:
        model: in float64, and used inside `true_float64`.
        inputs: one sample without padding.
        schedule: what is followed.
        force: for some stages the places to select instead of those with the best scores.
        drawn: for query "random" what was drawn at each stage, by place.
    """

    model: PreTrainedModel
    inputs: Mapping[str, Tensor]
    schedule: Schedule
    force: Mapping[int, Sequence[int]] = field(default_factory=dict)
    drawn: Sequence[Mapping[int, float]] = ()

    def __post_init__(self) -> None:
        decoder = self.model.get_decoder()
        self.layers: nn.ModuleList = decoder.layers
        self.rotary: nn.Module = decoder.rotary_emb
        ids = self.inputs["input_ids"][0]
        self.visual = ids == self.model.config.image_token_id
        self.alive = torch.ones(len(ids), dtype=torch.bool)
        self.numbers: Tensor | None = None
        self.axes = 0
        self.aside: _Aside | None = None
        self.frozen: dict[int, Tensor] = {}
        self.scorer = self.schedule.scorer
        self.pending: dict[int, dict[int, float]] = {}
        self.stages: list[StageRecord] = []
        self.tokens_per_layer: list[int] = []
        self.readable_per_layer: list[int] = []
        self.alive_in: list[Tensor] = []
        self.numbers_in: list[Tensor | None] = []
        self.cache = DynamicCache()
        self.reading = False
        self.listening: list[Tensor] | None = None
        with self._attached(reading=True):
            self.output = self.model(**self.inputs, past_key_values=self.cache)
        self.logits: Tensor = self.output.logits[0, -1]

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """Logits [tokens, vocabulary] after each of `tokens`, which follow what was read."""
        past = self.cache.get_seq_length()
        options: dict[str, Any] = {}
        if getattr(self.model.model, "rope_deltas", None) is not None:
            deltas = self.delta
            options["position_ids"] = (torch.arange(past, past + len(tokens)) + deltas).expand(
                3, 1, -1
            )
        with self._attached(reading=False):
            return self.model(
                input_ids=torch.as_tensor(tokens)[None],
                attention_mask=torch.ones(1, past + len(tokens), dtype=torch.int64),
                past_key_values=self.cache,
                **options,
            ).logits[0]

    def fork(self) -> "FullLength":
        """The same state again, to go on from in another way."""
        other = copy.copy(self)
        other.cache = copy.deepcopy(self.cache)
        return other

    @contextmanager
    def _attached(self, *, reading: bool) -> Iterator[None]:
        """Every layer and every attention call goes through this object."""
        config = self.model.config.get_text_config()
        before = config._attn_implementation
        self.reading = reading
        with ExitStack() as stack:
            ALL_ATTENTION_FUNCTIONS[NAME] = self._attention
            stack.callback(ALL_ATTENTION_FUNCTIONS.pop, NAME)
            ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, eager_mask)
            stack.callback(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping.pop, NAME)
            config._attn_implementation = NAME
            stack.callback(setattr, config, "_attn_implementation", before)
            handles = [self.rotary.register_forward_pre_hook(self._see_axes, with_kwargs=True)]
            for number, layer in enumerate(self.layers, start=1):

                def enter(
                    module: nn.Module, args: Any, kwargs: Any, number: int = number
                ) -> tuple[Any, Any]:
                    return self._enter(number, module, args, kwargs)

                handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
                handles.append(layer.register_forward_hook(self._put_back))
            for handle in handles:
                stack.callback(handle.remove)
            yield
        if reading:
            self.delta = getattr(self.model.model, "rope_deltas", None)

    def _put_back(self, _: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        """After a layer: frozen rows are what they were before it."""
        if not self.reading or self.listening is not None:
            return output
        if isinstance(output, Tensor):
            return _put(output[0], self.frozen)[None]
        return (_put(output[0][0], self.frozen)[None], *output[1:])

    def _see_axes(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = args[1] if len(args) > 1 else kwargs["position_ids"]
        self.axes = len(ids) if ids.ndim == 3 else 0

    def _attention(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor,
        scaling: float | None = None,
        softcap: float | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """Written out: scaled products, the model's mask, keys that are gone, softmax."""
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        logits = query @ key.transpose(2, 3) * scaling
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        seen = attention_mask[..., : key.shape[2]] > torch.finfo(attention_mask.dtype).min / 2
        alive = self.alive if self.reading else self.alive_in[module.layer_idx]
        later = key.shape[2] - len(alive)
        seen = seen & torch.nn.functional.pad(alive, (0, later), value=True)
        logits = logits.masked_fill(~seen, -math.inf)
        if self.listening is not None:
            self.listening.append(logits[0].detach())
        return (_softmax(logits) @ value).transpose(1, 2), None

    def _enter(
        self, number: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self.listening is not None:
            return args, kwargs
        hidden = args[0][0]
        if self.reading:
            if number == 1:
                self.embeddings = hidden
            for index, stage in enumerate(self.schedule.stages):
                if stage.score_layer + (stage.when == "after") == number:
                    hidden = self._cut(index, stage, number, layer, hidden, kwargs)
            for index, stage in enumerate(self.schedule.stages):
                if stage.when == "after" and stage.score_layer == number:
                    self.scorer = stage.scorer or self.schedule.scorer
                    self.pending[index] = self._scores(number, layer, hidden, kwargs)
            readable = int((self.alive & self.visual).sum())
            self.readable_per_layer.append(readable)
            self.tokens_per_layer.append(readable - len(self.frozen))
            self.alive_in.append(self.alive.clone())
            self.numbers_in.append(self.numbers)
            numbers = self.numbers
        else:
            numbers = self.numbers_in[number - 1]
            if numbers is not None:
                first = numbers[-1] + 1 + self.cache.get_seq_length(number - 1) - len(numbers)
                numbers = first + torch.arange(len(hidden))
        return (hidden[None],), self._placed(number, hidden, kwargs, numbers)

    def _placed(
        self, number: int, hidden: Tensor, kwargs: dict[str, Any], numbers: Tensor | None
    ) -> dict[str, Any]:
        """The layer's arguments with the rotary embedding of `numbers`, where there are any."""
        if numbers is None:
            return dict(kwargs)
        ids = numbers.expand(self.axes, 1, -1) if self.axes else numbers[None]
        arguments = [hidden[None], ids]
        if "layer_type" in inspect.signature(self.rotary.forward).parameters:
            arguments.append(self.model.config.get_text_config().layer_types[number - 1])
        return {**kwargs, "position_embeddings": self.rotary.forward(*arguments)}

    @torch.no_grad()
    def _scores(
        self, number: int, layer: nn.Module, hidden: Tensor, kwargs: dict[str, Any]
    ) -> dict[int, float]:
        """Importance at a layer, by place, of the visual tokens that are there."""
        scorer = self.scorer
        if scorer.query in ("random", "uniform"):
            return {}  # known, or told apart, only where the stage stands
        arguments = self._placed(number, hidden, kwargs, self.numbers)
        if not scorer.rotary:
            cos, sin = arguments["position_embeddings"]
            arguments["position_embeddings"] = torch.ones_like(cos), torch.zeros_like(sin)
        self.listening = []
        layer(hidden[None], **{**arguments, "past_key_values": None, "use_cache": False})
        (logits,), self.listening = self.listening, None
        if scorer.softmax == "visual":
            logits = logits.masked_fill(~self.visual, -math.inf)
        rows = [row for row in self._rows() if self.alive[row]]
        weights = _softmax(logits[:, rows])
        if scorer.decay is not None:
            weights = weights / self._closeness(*arguments["position_embeddings"])[rows]
        weights = weights[self._heads(number, weights[:, :, self.alive & self.visual])]
        mean = weights.mean(dim=(0, 1))
        return {int(i): float(mean[i]) for i in (self.alive & self.visual).nonzero()}

    def _heads(self, number: int, given: Tensor) -> list[int]:
        """The heads to average, of what each row of each head gives each candidate."""
        wanted, there = self.scorer.heads, list(range(len(given)))
        if wanted == "mean":
            return there
        if isinstance(wanted, tuple):
            return [head for at, head in wanted if at == number]
        if isinstance(wanted, float):
            wanted = max(1, math.floor(wanted * len(given) + 0.5))
        return sorted(there, key=lambda head: (-float(given[head].sum()), head))[:wanted]

    def _closeness(self, cos: Tensor, sin: Tensor) -> Tensor:
        """Mean cosine of the angles between every two places, one tenth at least: [n, n]."""
        angles = torch.atan2(sin[0], cos[0])
        size = getattr(self.model.config.get_text_config(), "head_dim", None)
        size = size or self.layers[0].self_attn.head_dim
        still = torch.zeros(len(angles), size - angles.shape[1])
        angles = torch.cat([angles, still], dim=1)
        return (angles[:, None] - angles[None]).cos().mean(2).clamp(min=0.1)

    def _rows(self) -> list[int]:
        """Places whose attention is read."""
        n = len(self.visual)
        pictures = self.visual.nonzero()[:, 0].tolist()
        text = list(range(pictures[-1] + 1, n))
        query = self.scorer.query
        if query != "raters":
            return {"last": [n - 1], "text": text, "all": list(range(n))}[query]
        affinity = (self.embeddings[pictures] @ self.embeddings[text].T).softmax(1).mean(0)
        raters = [t for t, value in zip(text, affinity, strict=True) if value > affinity.mean()]
        return raters or text

    def _cut(
        self,
        index: int,
        stage: Stage,
        number: int,
        layer: nn.Module,
        hidden: Tensor,
        kwargs: dict[str, Any],
    ) -> Tensor:
        hidden = self._come_back(hidden)
        self.frozen = {}
        self.scorer = stage.scorer or self.schedule.scorer
        scores = self.pending.pop(index, None)
        if scores is None:
            scores = self._scores(number, layer, hidden, kwargs)
        candidates = (self.alive & self.visual).nonzero()[:, 0].tolist()
        keep = stage.keep
        if isinstance(keep, float):
            keep = max(1, math.floor(keep * int(self.visual.sum()) + 0.5))
        if isinstance(keep, MassKeep):
            keep = self._holding(keep, list(scores.values()))
        keep = 0 if keep == "none" else min(keep, len(candidates))
        if self.scorer.query == "random":
            scores = dict(self.drawn[index])
        if self.scorer.query == "uniform":
            middles = [int((i + 0.5) * len(candidates) / keep) for i in range(keep)]
            scores = {place: float(i in middles) for i, place in enumerate(candidates)}
        first = self._grid(stage.stride) if stage.stride else set()
        ranked = sorted(scores, key=lambda place: (place not in first, -scores[place], place))
        selected = sorted(self.force.get(index, ranked[:keep]))
        rest = [place for place in candidates if place not in set(selected)]
        if stage.disposal == "recycle":
            by_score = sorted(rest, key=lambda place: (-scores[place], place))
            groups = self._peaks(by_score[: math.ceil((3 * len(rest) + 1) / 10)], hidden)
        else:
            groups = self._groups(stage, rest, hidden)
        merged = {
            seed: torch.stack([hidden[p] for p in rest if groups.get(p) == seed]).mean(0)
            for seed in sorted({seed for seed in groups.values() if seed is not None})
        }
        if stage.disposal == "bypass" and rest:
            states = {place: hidden[place] for place in rest}
            self.aside = _Aside(states, groups, merged, stage.positions == "renumber")
        self.alive = self.alive.clone()
        if stage.disposal == "freeze":
            self.frozen = {place: hidden[place] for place in rest}
        else:
            self.alive[rest] = False
        self.alive[list(merged)] = True
        if stage.positions == "renumber":
            self._renumber()
        self.stages.append(
            StageRecord(candidates, [scores.get(i, 0.0) for i in candidates], selected, [*merged])
        )
        return _put(hidden, merged)

    def _holding(self, keep: MassKeep, scores: list[float]) -> int:
        """How many of the highest scores hold the share, within the limits."""
        n = int(self.visual.sum())
        least, most = (
            limit if isinstance(limit, int) else max(1, math.floor(limit * n + 0.5))
            for limit in (keep.least, keep.most)
        )
        held, count = 0.0, 0
        for score in sorted(scores, reverse=True):
            if count and held >= keep.mass * math.fsum(scores):
                break
            held, count = held + score, count + 1
        return min(max(count, least), most)

    def _groups(self, stage: Stage, rest: list[int], hidden: Tensor) -> dict[int, int | None]:
        """The seed of the group of each of the rest; None where nothing stands for it."""
        count = stage.merge
        if isinstance(count, float) and count > 0:
            count = max(1, math.floor(count * len(rest) + 0.5))
        z = min(int(count), len(rest))
        if stage.disposal in ("drop", "freeze") or z == 0:
            return dict.fromkeys(rest)
        seeds = [rest[math.floor((i + 0.5) * len(rest) / z)] for i in range(z)]
        likeness = torch.nn.functional.cosine_similarity(
            hidden[rest][:, None], hidden[seeds][None], dim=2
        ).tolist()
        return {
            place: place if place in seeds else seeds[row.index(max(row))]
            for place, row in zip(rest, likeness, strict=True)
        }

    def _grid(self, stride: int) -> set[int]:
        """Places on every so many rows and columns of each picture that is square."""
        found: set[int] = set()
        places = self.visual.nonzero()[:, 0].tolist()
        while places:
            run = [place for step, place in enumerate(places) if place == places[0] + step]
            places = places[len(run) :]
            side = math.isqrt(len(run))
            if side**2 == len(run):
                found.update(
                    p for i, p in enumerate(run) if not (i // side % stride or i % side % stride)
                )
            else:
                found.update(run[:: stride**2])
        return found

    def _peaks(self, pool: list[int], hidden: Tensor) -> dict[int, int | None]:
        """The density peak that each of the pool is with; the best scored come first."""
        if not pool:
            return {}
        count = 1 + len(pool) // 10
        apart = {
            p: {q: math.dist(hidden[p], hidden[q]) / hidden.shape[1] ** 0.5 for q in pool}
            for p in pool
        }
        density = {
            p: math.exp(-sum(far**2 for far in sorted(apart[p].values())[:count]) / count)
            for p in pool
        }
        rank = {p: (-density[p], order) for order, p in enumerate(pool)}
        widest = max(far for row in apart.values() for far in row.values())
        alone = {
            p: min((apart[p][q] for q in pool if rank[q] < rank[p]), default=widest) for p in pool
        }
        peaks = sorted(pool, key=lambda p: -alone[p] * density[p])[:count]
        return {p: p if p in peaks else min(peaks, key=apart[p].__getitem__) for p in pool}

    def _come_back(self, hidden: Tensor) -> Tensor:
        """Every token set aside in its place again, moved by what its group went through."""
        if self.aside is None:
            return hidden
        aside, self.aside = self.aside, None
        offsets = {seed: hidden[seed] - state for seed, state in aside.merged.items()}
        returned = {}
        for place, state in aside.states.items():
            seed = aside.seed_of[place]
            returned[place] = state if seed is None else state + offsets[seed]
        self.alive = self.alive.clone()
        self.alive[list(returned)] = True
        if aside.renumbered:
            self._renumber()
        return _put(hidden, returned)

    def _renumber(self) -> None:
        """0, 1, 2, … over what is alive."""
        self.numbers = self.alive.cumsum(0) - 1


def _put(hidden: Tensor, states: Mapping[int, Tensor]) -> Tensor:
    if not states:
        return hidden
    hidden = hidden.clone()
    hidden[list(states)] = torch.stack(list(states.values()))
    return hidden


def _softmax(logits: Tensor) -> Tensor:
    """A row that sees nothing is zero, and so is its gradient."""
    blind = logits.isneginf().all(-1, keepdim=True)
    return logits.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)
