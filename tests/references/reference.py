"""An independent reference for the pruning engine: Qwen2-VL's decoder in plain torch, full length.

Nothing is ever taken out of the sequence: every layer computes all n tokens of one unpadded sample,
and a mask of keys says which of them can still be seen. A merged token lives in the place of its
seed. The schedule is followed as the design document words it, one token at a time. No code is
shared with the engine; `true_float64` makes the Hugging Face model compute in float64 throughout,
so that the two can be compared to 1e-10.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from transformers import BatchFeature, PreTrainedModel
from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen

from tests.references.published_rules import clusters


@contextmanager
def true_float64() -> Iterator[None]:
    """Norms and rotary angles in float64, which transformers computes in float32."""

    def norm(self, hidden_states):
        return self.weight * rms(hidden_states, self.variance_epsilon)

    def rotary(self, x, position_ids):
        position_ids = position_ids.expand(3, -1, -1)
        theta = self.config.rope_parameters["rope_theta"]
        size = self.config.hidden_size // self.config.num_attention_heads
        angles = position_ids[..., None].double() * frequencies(theta, size)
        return (
            self.recomposition_frequencies(angles.cos()),
            self.recomposition_frequencies(angles.sin()),
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qwen.Qwen2VLRMSNorm, "forward", norm)
        patch.setattr(qwen.Qwen2VLRotaryEmbedding, "forward", rotary)
        yield


def rms(x: Tensor, epsilon: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)


def frequencies(theta: float, size: int) -> Tensor:
    return theta ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)


@dataclass(frozen=True)
class Sample:
    """One sample without padding: embeddings [n, d], positions int64 [n, 3], visual bool [n]."""

    embeddings: Tensor
    positions: Tensor
    visual: Tensor
    offset: int
    """Padding that stands before it in its batch."""


def samples_of(model: PreTrainedModel, inputs: BatchFeature) -> list[Sample]:
    """The samples of a batch; their embeddings are taken where they enter the decoder."""
    seen = {}

    def look(_module, _args, kwargs):
        seen["embeddings"] = kwargs["inputs_embeds"].detach()

    handle = model.get_decoder().register_forward_pre_hook(look, with_kwargs=True)
    try:
        with torch.no_grad():
            model(**inputs, use_cache=False)
    finally:
        handle.remove()
    found, pictures = [], 0
    for row, mask in enumerate(inputs["attention_mask"].bool()):
        ids, kinds = inputs["input_ids"][row, mask], inputs["mm_token_type_ids"][row, mask]
        starts = (kinds == 1) & ~torch.nn.functional.pad(kinds == 1, (1, 0))[:-1]
        grids = inputs["image_grid_thw"][pictures : pictures + int(starts.sum())]
        pictures += len(grids)
        positions, _ = model.model.get_rope_index(ids[None], kinds[None], image_grid_thw=grids)
        found.append(
            Sample(
                embeddings=seen["embeddings"][row, mask],
                positions=positions[:, 0].T,
                visual=ids == model.config.image_token_id,
                offset=int((~mask).sum()),
            )
        )
    return found


@dataclass
class StageRecord:
    """Places (in the unpadded sample) and scores of one stage."""

    candidates: list[int]
    scores: list[float]
    selected: list[int]
    merged: list[int]


@dataclass
class _Bypass:
    """Tokens set aside: their states, the group (seed) of each, the merged states, renumbered."""

    states: dict[int, Tensor]
    seed_of: dict[int, int]
    merged: dict[int, Tensor]
    renumbered: bool


@dataclass
class Reference:
    """A decoder that has read one sample under a schedule, and can go on from there.

    `force` gives, for some stages, the places to select instead of those with the best scores.
    """

    model: PreTrainedModel
    sample: Sample
    schedule: object
    force: dict[int, Sequence[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = self.model.config.get_text_config()
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.size = config.hidden_size // self.heads
        self.section = config.rope_parameters["mrope_section"]
        self.frequency = frequencies(config.rope_parameters["rope_theta"], self.size)
        self.epsilon = config.rms_norm_eps
        self.layers = config.num_hidden_layers
        self.weights = {
            name.split("language_model.", 1)[1]: tensor.detach()
            for name, tensor in self.model.state_dict().items()
            if "language_model." in name
        }
        self.stages: list[StageRecord] = []
        self.tokens_per_layer: list[int] = []
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.seen: list[Tensor] = []
        self.next_position: list[Tensor] = []
        self.logits = self._prefill()

    def _weight(self, layer: int, name: str) -> Tensor:
        return self.weights[f"layers.{layer - 1}.{name}"]

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return rms(x, self.epsilon) * weight

    def _project(self, layer: int, x: Tensor, which: str) -> Tensor:
        """Queries, keys or values [heads, n, size], before rotation."""
        x = self._norm(x, self._weight(layer, "input_layernorm.weight"))
        weight = self._weight(layer, f"self_attn.{which}_proj.weight")
        bias = self._weight(layer, f"self_attn.{which}_proj.bias")
        return (x @ weight.T + bias).view(len(x), -1, self.size).transpose(0, 1)

    def _rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        component = torch.cat([torch.full((n,), i % 3) for i, n in enumerate(self.section)])
        angles = positions.double()[:, component] * self.frequency
        half = self.size // 2
        first, second = x[..., :half], x[..., half:]
        return torch.cat(
            [
                first * angles.cos() - second * angles.sin(),
                second * angles.cos() + first * angles.sin(),
            ],
            dim=-1,
        )

    def _repeated(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.heads // self.kv_heads, dim=0)

    def _weights(self, query: Tensor, key: Tensor, allowed: Tensor) -> Tensor:
        """Attention [heads, rows, keys]; a row that may see nothing is zero."""
        logits = query @ self._repeated(key).transpose(1, 2) / math.sqrt(self.size)
        logits = logits.masked_fill(~allowed, -math.inf)
        return logits.softmax(-1).nan_to_num(0.0)

    def _layer(self, layer: int, x: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        """One layer over new tokens `x`, after storing their keys; `allowed` [rows, keys]."""
        query = self._rotate(self._project(layer, x, "q"), positions)
        key = self._rotate(self._project(layer, x, "k"), positions)
        value = self._project(layer, x, "v")
        if len(self.keys) < layer:
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[layer - 1] = torch.cat([self.keys[layer - 1], key], dim=1)
            self.values[layer - 1] = torch.cat([self.values[layer - 1], value], dim=1)
        weights = self._weights(query, self.keys[layer - 1], allowed)
        mixed = weights @ self._repeated(self.values[layer - 1])
        mixed = mixed.transpose(0, 1).flatten(1)
        x = x + mixed @ self._weight(layer, "self_attn.o_proj.weight").T
        y = self._norm(x, self._weight(layer, "post_attention_layernorm.weight"))
        gate = torch.nn.functional.silu(y @ self._weight(layer, "mlp.gate_proj.weight").T)
        up = y @ self._weight(layer, "mlp.up_proj.weight").T
        return x + (gate * up) @ self._weight(layer, "mlp.down_proj.weight").T

    def _head(self, x: Tensor) -> Tensor:
        return self._norm(x, self.weights["norm.weight"]) @ self.model.lm_head.weight.detach().T

    def _prefill(self) -> Tensor:
        sample = self.sample
        n = len(sample.embeddings)
        x, positions = sample.embeddings.clone(), sample.positions.clone()
        alive, visual = torch.ones(n, dtype=torch.bool), sample.visual
        causal = torch.ones(n, n, dtype=torch.bool).tril()
        aside: _Bypass | None = None
        previous = None
        for layer in range(1, self.layers + 1):
            for index, stage in enumerate(self.schedule.stages):
                if stage.score_layer + (stage.when == "after") != layer:
                    continue
                if aside is not None:
                    x, alive, positions = self._return(aside, x, alive, positions)
                    aside = None
                if stage.when == "after":
                    scores = self._scores(index, *previous, visual)
                else:
                    scores = self._scores(index, layer, x, positions, alive, visual)
                x, alive, positions, aside = self._stage(index, stage, scores, x, alive, positions)
            previous = (layer, x, positions, alive)
            self.tokens_per_layer.append(int((alive & visual).sum()))
            self.seen.append(alive.clone())
            self.next_position.append(positions[-1] + 1)
            x = self._layer(layer, x, positions, causal & alive)
        return self._head(x[-1:])[0]

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """Logits [tokens, vocabulary] after each of `tokens`, which follow what was read."""
        x = self.weights["embed_tokens.weight"][torch.as_tensor(tokens)]
        q = len(x)
        for layer in range(1, self.layers + 1):
            past = self.seen[layer - 1]
            allowed = torch.cat(
                [past.expand(q, -1), torch.ones(q, q, dtype=torch.bool).tril()], dim=1
            )
            positions = self.next_position[layer - 1] + torch.arange(q)[:, None]
            x = self._layer(layer, x, positions, allowed)
            self.seen[layer - 1] = torch.cat([past, torch.ones(q, dtype=torch.bool)])
            self.next_position[layer - 1] = positions[-1] + 1
        return self._head(x)

    def _rows(self) -> list[int]:
        """Rows whose attention is read."""
        query, n = self.schedule.scorer.query, len(self.sample.visual)
        places = [i for i in range(n) if self.sample.visual[i]]
        text = list(range(places[-1] + 1, n))
        if query == "last":
            return [n - 1]
        if query == "text":
            return text
        if query == "all":
            return list(range(n))
        assert query == "raters"
        states = self.sample.embeddings
        affinity = (states[places] @ states[text].T).softmax(dim=1).mean(dim=0)
        raters = [t for t, value in zip(text, affinity, strict=True) if value > affinity.mean()]
        return raters or text

    def _scores(
        self, index: int, layer: int, x: Tensor, positions: Tensor, alive: Tensor, visual: Tensor
    ) -> dict[int, float]:
        """Importance of every visual token that is there, by its place."""
        scorer = self.schedule.scorer
        query, key = self._project(layer, x, "q"), self._project(layer, x, "k")
        if scorer.rotary:
            query, key = self._rotate(query, positions), self._rotate(key, positions)
        rows = [row for row in self._rows() if alive[row]]
        keys = alive & visual if scorer.softmax == "visual" else alive
        causal = torch.arange(len(x))[None] <= torch.tensor(rows)[:, None]
        weights = self._weights(query[:, rows], key, causal & keys)
        if scorer.decay == "divide":
            component = torch.cat([torch.full((n,), i % 3) for i, n in enumerate(self.section)])
            angles = positions.double()[:, component] * self.frequency
            apart = angles[rows][:, None] - angles[None]
            weights = weights / apart.cos().mean(-1).clamp(min=0.1)
        if isinstance(scorer.heads, int):
            given = weights[:, :, alive & visual].sum((1, 2))
            weights = weights[given.topk(scorer.heads).indices]
        elif scorer.heads != "mean":
            weights = weights[[head for number, head in scorer.heads if number == layer]]
        mean = weights.mean(dim=(0, 1))
        return {i: float(mean[i]) for i in range(len(x)) if alive[i] and visual[i]}

    def _stage(self, index, stage, scores, x, alive, positions):
        n_visual = int(self.sample.visual.sum())
        keep = stage.keep
        if isinstance(keep, float):
            keep = max(1, math.floor(keep * n_visual + 0.5))
        ranked = sorted(scores, key=lambda place: (-scores[place], place))
        selected = sorted(self.force.get(index, ranked[: min(keep, len(ranked))]))
        rest = [place for place in sorted(scores) if place not in set(selected)]
        x, alive = x.clone(), alive.clone()
        states = {place: x[place].clone() for place in rest}
        for place in rest:
            alive[place] = False
        if stage.disposal == "recycle":
            seed_of = self._recycled([place for place in ranked if place in states], x)
        else:
            seed_of = self._grouped(stage, rest, x)
        merged_states = {}
        for seed in dict.fromkeys(seed_of.values()):
            members = [states[place] for place in rest if seed_of.get(place) == seed]
            merged_states[seed] = x[seed] = sum(members) / len(members)
            alive[seed] = True
        self.stages.append(
            StageRecord(
                candidates=sorted(scores),
                scores=[scores[place] for place in sorted(scores)],
                selected=selected,
                merged=sorted(merged_states),
            )
        )
        renumber = stage.positions == "renumber"
        aside = None
        if stage.disposal == "bypass" and rest:
            aside = _Bypass(states, seed_of, merged_states, renumber)
        if renumber:
            positions = self._renumbered(positions, alive)
        return x, alive, positions, aside

    @staticmethod
    def _recycled(ranked: list[int], x: Tensor) -> dict[int, int]:
        """Of the rest, best first, the centre of each that is clustered."""
        pool = ranked[: int(0.3 * len(ranked)) + 1]
        found = clusters(x[pool], int(len(pool) / 10) + 1) if pool else []
        return {pool[member]: pool[members[0]] for members in found for member in members}

    @staticmethod
    def _grouped(stage, rest: list[int], x: Tensor) -> dict[int, int]:
        """The seed of each of the rest, where there is one."""
        merge = stage.merge
        if isinstance(merge, float) and merge > 0:
            merge = max(1, math.floor(merge * len(rest) + 0.5))
        z = min(int(merge), len(rest))
        seeds = [rest[math.floor((i + 0.5) * len(rest) / z)] for i in range(z)]
        seed_of = {}
        for place in rest if seeds else []:
            likeness = [
                float(torch.nn.functional.cosine_similarity(x[place], x[seed], dim=0))
                for seed in seeds
            ]
            nearest = seeds[likeness.index(max(likeness))]
            seed_of[place] = place if place in seeds else nearest
        return seed_of

    def _return(self, aside: _Bypass, x: Tensor, alive: Tensor, positions: Tensor):
        x, alive = x.clone(), alive.clone()
        changes = {seed: x[seed] - state for seed, state in aside.merged.items()}
        for place, state in aside.states.items():
            seed = aside.seed_of.get(place)
            x[place] = state if seed is None else state + changes[seed]
            alive[place] = True
        if aside.renumbered:
            positions = self._renumbered(positions, alive)
        return x, alive, positions

    @staticmethod
    def _renumbered(positions: Tensor, alive: Tensor) -> Tensor:
        positions = positions.clone()
        for number, place in enumerate(alive.nonzero().flatten().tolist()):
            positions[place] = number
        return positions
