"""What the published methods choose, in plain torch, on one sample without padding.

As their own code does it: the decoder's layers run one after another, and between two of them
tokens are taken out of the sequence. Nothing is shared with the engine but the model itself, whose
layers are two of its families' (Llama, Qwen2).
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import torch
from torch import Tensor
from transformers import PreTrainedModel


class Reading:
    """A prompt on its way through the decoder; layers are counted from 1.

    Attributes:
        hidden: [1, tokens, size], before the next layer.
        places: where in the prompt each of the tokens stood, int64 [tokens].
        visual: bool [tokens].
    """

    def __init__(self, model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> None:
        self._decoder = model.get_decoder()
        self._config = model.config.get_text_config()
        seen = {}

        def embeddings(_module, _args, kwargs):
            seen["hidden"] = kwargs["inputs_embeds"]

        def positions(_module, args, kwargs):
            seen["positions"] = args[1] if len(args) > 1 else kwargs["position_ids"]

        handles = [
            self._decoder.register_forward_pre_hook(embeddings, with_kwargs=True),
            self._decoder.rotary_emb.register_forward_pre_hook(positions, with_kwargs=True),
        ]
        with torch.no_grad():
            model(**inputs, use_cache=False)
        for handle in handles:
            handle.remove()
        self.hidden, self._positions = seen["hidden"], seen["positions"]
        self.visual = inputs["input_ids"][0] == model.config.image_token_id
        self.places = torch.arange(len(self.visual))

    @torch.no_grad()
    def run(self, *numbers: int) -> None:
        """Let the tokens that are left go through layers."""
        for number in numbers:
            output = self._decoder.layers[number - 1](
                self.hidden,
                attention_mask=None,
                position_embeddings=self._decoder.rotary_emb(self.hidden, self._positions),
            )
            self.hidden = output if isinstance(output, Tensor) else output[0]

    @torch.no_grad()
    def logits(self, number: int, *, rotary: bool = True) -> Tensor:
        """Queries times keys of a layer on what it is about to read, [heads, tokens, tokens]."""
        layer = self._decoder.layers[number - 1]
        size = self._config.hidden_size // self._config.num_attention_heads
        x = layer.input_layernorm(self.hidden)
        query, key = (
            project(x)[0].unflatten(-1, (-1, size)).transpose(0, 1)
            for project in (layer.self_attn.q_proj, layer.self_attn.k_proj)
        )
        if rotary:
            cos, sin = (part[0] for part in self._decoder.rotary_emb(self.hidden, self._positions))
            query, key = (_turned(part, cos, sin) for part in (query, key))
        key = key.repeat_interleave(len(query) // len(key), dim=0)
        return query @ key.transpose(1, 2) / math.sqrt(size)

    def attention(self, number: int) -> Tensor:
        """The causal attention of a layer, [heads, tokens, tokens]."""
        logits = self.logits(number)
        later = torch.ones(logits.shape[1:], dtype=torch.bool).triu(1)
        return logits.masked_fill(later, -math.inf).softmax(-1)

    @torch.no_grad()
    def decay(self) -> Tensor:
        """What is left of queries and keys of ones when both are turned, [tokens, tokens]."""
        size = self._config.hidden_size // self._config.num_attention_heads
        cos, sin = (part[0] for part in self._decoder.rotary_emb(self.hidden, self._positions))
        ones = _turned(torch.ones(len(self.places), size, dtype=cos.dtype), cos, sin)
        return ones @ ones.T / size

    def best(self, scores: Tensor, count: int) -> Tensor:
        """Which `count` visual tokens have the highest of `scores` [tokens]: bool [tokens]."""
        found = scores.masked_fill(~self.visual, -math.inf).topk(count).indices
        return torch.zeros_like(self.visual).index_fill(0, found, True)

    def keep(self, chosen: Tensor, *, renumber: bool = False) -> list[int]:
        """Take all visual tokens but the `chosen` (bool [tokens]) out; the places of these."""
        left = chosen | ~self.visual
        self.hidden, self._positions = self.hidden[:, left], self._positions[..., left]
        self.places, self.visual = self.places[left], self.visual[left]
        if renumber:
            self._positions = torch.arange(len(self.places)).expand_as(self._positions)
        return self.places[self.visual].tolist()


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def fastv(reading: Reading, count: int, *, all_rows: bool) -> list[list[int]]:
    """FastV with K = 2: by the second layer's attention, the mean of all rows or the last alone."""
    reading.run(1)
    attention = reading.attention(2).mean(0)
    chosen = reading.best(attention.mean(0) if all_rows else attention[-1], count)
    reading.run(2)
    return [reading.keep(chosen)]


def pdrop(
    reading: Reading, counts: Sequence[int], firsts: Sequence[int], *, renumber: bool
) -> list[list[int]]:
    """PyramidDrop: before each of the layers `firsts`, by that layer's own last row."""
    found, done = [], 0
    for first, count in zip(firsts, counts, strict=True):
        reading.run(*range(done + 1, first))
        done = first - 1
        scores = reading.attention(first)[:, -1].mean(0)
        found.append(reading.keep(reading.best(scores, count), renumber=renumber))
    return found


def feather(
    reading: Reading, counts: Sequence[int], layers: Sequence[int], *, rotary: bool, grid: bool
) -> list[list[int]]:
    """FEATHER: by the last row of a layer over the visual tokens; at first a grid is added.

    Each stage takes as many of the best as make the number that it is to keep.
    """
    found, done = [], 0
    for place, (layer, count) in enumerate(zip(layers, counts, strict=True)):
        reading.run(*range(done + 1, layer))
        logits = reading.logits(layer, rotary=rotary)[:, -1]
        visual = logits.masked_fill(~reading.visual, -math.inf)
        scores = visual.softmax(-1).mean(0)
        chosen = torch.zeros_like(reading.visual)
        if grid and not place:
            chosen[_every_third(reading)] = True
        assert chosen.sum() < count
        best = 0
        while chosen.sum() < count:
            best += 1
            chosen = chosen | reading.best(scores, best)
        reading.run(layer)
        done = layer
        found.append(reading.keep(chosen))
    return found


def _every_third(reading: Reading) -> list[int]:
    """Every third row and column of square pictures, every ninth token of others."""
    taken, run = [], []
    for place, visual in enumerate([*reading.visual.tolist(), False]):
        if visual:
            run.append(place)
            continue
        side = round(len(run) ** 0.5)
        for index, token in enumerate(run):
            row, column = divmod(index, max(1, side))
            square = side * side == len(run)
            if (row % 3 == column % 3 == 0) if square else index % 9 == 0:
                taken.append(token)
        run = []
    return taken


def stride(reading: Reading, count: int) -> list[list[int]]:
    """The middles of `count` equal parts of the visual tokens, before the first layer."""
    there = reading.visual.nonzero().flatten().tolist()
    part = Fraction(len(there), count)
    middles = [there[math.floor(part * index + part / 2)] for index in range(count)]
    chosen = torch.zeros_like(reading.visual)
    chosen[middles] = True
    return [reading.keep(chosen)]


def divprune(reading: Reading, count: int, *, spread: bool = True) -> list[list[int]]:
    """DivPrune: by turns the visual token whose nearest kept one is farthest, before any layer.

    The first is the one whose nearest other is farthest; without `spread` all are chosen as it is.
    """
    there = reading.visual.nonzero().flatten().tolist()
    units = [reading.hidden[0, place] / reading.hidden[0, place].norm() for place in there]
    kept: list[int] = []
    while len(kept) < count:
        left = [index for index in range(len(there)) if index not in kept]
        others = kept if kept and spread else range(len(there))
        nearest = [
            min(1 - float(units[index] @ units[other]) for other in others if other != index)
            for index in left
        ]
        kept.append(left[nearest.index(max(nearest))])
    chosen = torch.zeros_like(reading.visual)
    chosen[[there[index] for index in kept]] = True
    return [reading.keep(chosen, renumber=True)]


def first_ones(reading: Reading, count: int) -> list[list[int]]:
    """The first `count` visual tokens: no rule of anyone's."""
    return [reading.keep(reading.visual & (reading.visual.cumsum(0) <= count))]


def clusters(states: Tensor, count: int) -> list[list[int]]:
    """SparseVLM's clusters of tokens [tokens, size]: of each its members, the centre first.

    The better centre comes first; where two are equally dense, the earlier one is denser.
    """
    n = len(states)
    distance = [[float((a - b).norm()) / math.sqrt(len(a)) for b in states] for a in states]
    density = [math.exp(-sum(far**2 for far in sorted(row)[:count]) / count) for row in distance]
    largest = max(max(row) for row in distance)
    worth = []
    for i in range(n):
        denser = [
            j for j in range(n) if density[j] > density[i] or (density[j] == density[i] and j < i)
        ]
        worth.append(min((distance[i][j] for j in denser), default=largest) * density[i])
    centres = sorted(range(n), key=lambda i: (-worth[i], i))[:count]
    found = {centre: [centre] for centre in centres}
    for i in range(n):
        if i not in found:
            found[min(centres, key=lambda centre: distance[i][centre])].append(i)
    return [found[centre] for centre in centres]


def raters(reading: Reading) -> Tensor:
    """SparseVLM's raters: text after the picture that is nearer to it than its mean, bool [tokens].

    To be called before the first layer has run.
    """
    text = reading.places > reading.places[reading.visual].max()
    visual, words = reading.hidden[0, reading.visual], reading.hidden[0, text]
    rating = (visual @ words.T).softmax(-1).mean(0)
    above = rating > rating.mean()
    found = torch.zeros_like(text)
    found[text] = above if above.any() else torch.ones_like(above)
    return found


def sparsevlm(
    reading: Reading, counts: Sequence[int], layers: Sequence[int], *, cluster: bool, rate: bool
) -> list[list[int]]:
    """SparseVLM: by the mean attention of the raters, after each of `layers`.

    The control rates by all text, or drops all that is not chosen.
    """
    rating = raters(reading) if rate else reading.places > reading.places[reading.visual].max()
    rating_places = reading.places[rating]
    found, done = [], 0
    for layer, count in zip(layers, counts, strict=True):
        reading.run(*range(done + 1, layer))
        rows = torch.isin(reading.places, rating_places)
        scores = reading.attention(layer)[:, rows].mean((0, 1))
        chosen = reading.best(scores, min(count, int(reading.visual.sum())))
        reading.run(layer)
        done = layer
        found.append(reading.places[chosen].tolist())
        made = recycled(reading, scores, chosen) if cluster else {}
        means = {centre: reading.hidden[0, members].mean(0) for centre, members in made.items()}
        for centre, mean in means.items():
            reading.hidden[0, centre] = mean
            chosen[centre] = True
        reading.keep(chosen, renumber=True)
    return found


def sparsevlm_plus(
    reading: Reading,
    counts: Sequence[int],
    layers: Sequence[int],
    *,
    heads: int,
    divide: bool,
    renumber: bool = False,
) -> list[list[int]]:
    """SparseVLM+: the same rows, divided by the decay with distance, of the strongest heads."""
    rating_places = reading.places[raters(reading)]
    found, done = [], 0
    for layer, count in zip(layers, counts, strict=True):
        reading.run(*range(done + 1, layer))
        attention = reading.attention(layer)
        if divide:
            attention = attention / reading.decay().clamp(min=0.1)
        read = attention[:, torch.isin(reading.places, rating_places)]
        strongest = read[:, :, reading.visual].sum((1, 2)).topk(heads).indices
        chosen = reading.best(read[strongest].mean((0, 1)), count)
        reading.run(layer)
        done = layer
        found.append(reading.keep(chosen, renumber=renumber))
    return found


def recycled(reading: Reading, scores: Tensor, chosen: Tensor) -> dict[int, list[int]]:
    """Of what is not chosen the best three in ten are clustered: members by the centre's index.

    Indices count the tokens that are left.
    """
    rest = (reading.visual & ~chosen).nonzero().flatten().tolist()
    if not rest:
        return {}
    ranked = sorted(rest, key=lambda index: -float(scores[index]))
    pool = ranked[: int(0.3 * len(rest)) + 1]
    found = clusters(reading.hidden[0, pool], int(len(pool) / 10) + 1)
    return {pool[members[0]]: [pool[member] for member in members] for members in found}
