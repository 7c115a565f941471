"""The engine's maths on tensors, against loops over tokens."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tokenlens.pruning import masks
from tokenlens.pruning.attention import AttentionInputs
from tokenlens.pruning.attention_rows import ChosenRows, importance
from tokenlens.pruning.disposal import StageDecision
from tokenlens.pruning.grid import on_grid
from tokenlens.pruning.grouping import group
from tokenlens.pruning.scorers.random_draw import random_scores
from tokenlens.pruning.scoring import Prompt, StageContext, select
from tokenlens.pruning.tokens import Slots, Tokens, arrange
from tokenlens.registry import DISPOSALS
from tokenlens.schedule import Scorer


def tokens_of(counts, width, hidden=4, seed=0):
    """Right-aligned visual tokens, `counts[i]` of them in sample i."""
    generator = torch.Generator().manual_seed(seed)
    column = torch.arange(width).expand(len(counts), -1)
    present = column >= width - torch.tensor(counts)[:, None]
    slots = Slots.of_input(present, present)
    return Tokens(
        torch.randn(len(counts), width, hidden, generator=generator, dtype=torch.float64), slots
    )


COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=3)


@given(counts=COUNTS, seed=st.integers(0, 99), data=st.data())
def test_select_takes_the_best_and_of_equals_the_first(counts, seed, data):
    width = max(*counts, 1) + 1
    slots = tokens_of(counts, width).slots
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, slots.index.shape, generator=generator).float()
    wanted = [data.draw(st.integers(0, count)) for count in counts]
    kept = select(scores, slots.visual, wanted)
    for row, count in enumerate(wanted):
        places = slots.visual[row].nonzero().flatten().tolist()
        ranked = sorted(places, key=lambda place: (-float(scores[row, place]), place))
        assert kept[row].nonzero().flatten().tolist() == sorted(ranked[:count])


@settings(deadline=None)
@given(counts=COUNTS, seed=st.integers(0, 99), data=st.data())
def test_groups_are_those_of_a_loop(counts, seed, data):
    merging = tuple(data.draw(st.integers(min(1, count), count)) for count in counts)
    if not any(merging):
        return
    rest = tokens_of(counts, max(counts), seed=seed)
    merged, member_of, _ = group(rest, merging)
    for row, (r, z) in enumerate(zip(counts, merging, strict=True)):
        states = rest.hidden[row, rest.slots.width - r :]
        seeds = [math.floor((i + 0.5) * r / z) for i in range(z)]
        members = {seed: [seed] for seed in seeds}
        for i in range(r):
            if i not in seeds:
                likeness = [
                    float(torch.nn.functional.cosine_similarity(states[i], states[s], dim=0))
                    for s in seeds
                ]
                members[seeds[likeness.index(max(likeness))]].append(i)
        width = merged.slots.width
        assert merged.slots.lengths[row] == z == int(merged.slots.present[row].sum())
        for place, chosen in enumerate(seeds, start=width - z):
            assert torch.allclose(merged.hidden[row, place], states[members[chosen]].mean(0))
            assert (
                merged.slots.index[row, place]
                == rest.slots.index[row, rest.slots.width - r + chosen]
            )
            for i in members[chosen]:
                assert member_of[row, rest.slots.width - r + i] == place


def test_ties_go_to_the_earlier_seed():
    rest = tokens_of([6], 6)
    rest.hidden[:] = 1.0
    _, member_of, _ = group(rest, (2,))
    assert member_of.tolist() == [[0, 0, 0, 0, 1, 0]], "seeds stand at 1 and 4"


def test_merged_means_are_summed_in_float32():
    """Of many equal numbers in bfloat16 the mean is that number, which its own sums miss."""
    rest = tokens_of([300], 300)
    rest = rest._replace(hidden=torch.full((1, 300, 4), 1.0078125, dtype=torch.bfloat16))
    merged, _, _ = group(rest, (1,))
    assert merged.hidden.dtype == torch.bfloat16
    assert (merged.hidden == 1.0078125).all()


@given(counts=COUNTS, data=st.data())
def test_disposals_keep_order_and_counts(counts, data):
    width = max(*counts, 1) + 2
    batch = len(counts)
    visual = torch.arange(width).expand(batch, -1) >= width - 1 - torch.tensor(counts)[:, None]
    visual[:, -1] = False
    attended = visual.clone()
    attended[:, -1] = True
    slots = Slots.of_input(visual, attended)
    hidden = torch.arange(batch * width, dtype=torch.float64).view(batch, width, 1)
    keeping = tuple(data.draw(st.integers(0, count)) for count in counts)
    merging = tuple(
        data.draw(st.integers(min(1, n - k), n - k)) for n, k in zip(counts, keeping, strict=True)
    )
    scores = torch.rand(batch, width)
    kept = select(scores, slots.visual, keeping)
    for name in ("drop", "merge", "bypass"):
        cut = StageDecision(Tokens(hidden, slots), kept, keeping, merging, scores)
        disposed = DISPOSALS[name].apply(cut)
        now = disposed.tokens.slots
        expected = [
            1 + k + (0 if name == "drop" else z) for k, z in zip(keeping, merging, strict=True)
        ]
        assert list(now.lengths) == expected == now.present.sum(1).tolist()
        assert list(now.visuals) == [n - 1 for n in expected] == now.visual.sum(1).tolist()
        assert now.width == max(expected)
        for row in range(batch):
            index = now.index[row][now.present[row]]
            assert (index.diff() > 0).all()
            assert index[-1] == width - 1
            assert now.present[row].tolist() == sorted(now.present[row].tolist())
        assert (now.stand_in is not None and bool(now.stand_in.any())) == (
            name == "bypass" and any(merging)
        )
        if name == "bypass":
            back = disposed.bypassed.rejoin(disposed.tokens)
            assert back.slots.lengths == slots.lengths
            for row in range(batch):
                present = back.slots.present[row]
                assert torch.equal(back.slots.index[row][present], slots.index[row][attended[row]])
                assert torch.equal(back.hidden[row][present], hidden[row][attended[row]])
            assert back.slots.stand_in is None


def test_what_is_aside_moves_with_its_group():
    """aside + (merged now - merged then), each by its own group."""
    tokens = tokens_of([6], 6)
    kept = torch.zeros(1, 6, dtype=torch.bool)
    disposed = DISPOSALS["bypass"].apply(StageDecision(tokens, kept, (0,), (2,), kept.float()))
    moved = disposed.tokens._replace(
        hidden=disposed.tokens.hidden + torch.tensor([[[10.0], [100.0]]])
    )
    back = disposed.bypassed.rejoin(moved)
    change = (back.hidden - tokens.hidden)[0, :, 0]
    member_of = disposed.bypassed.groups.member_of[0]
    assert torch.allclose(change, torch.tensor([10.0, 100.0], dtype=torch.float64)[member_of])
    assert set(member_of.tolist()) == {0, 1}


@settings(deadline=None)
@given(
    seed=st.integers(0, 999),
    kv_heads=st.sampled_from([1, 2, 4]),
    softmax=st.sampled_from(["all", "visual"]),
    additive=st.booleans(),
    heads=st.sampled_from([None, [0], [3, 1], 1, 3, 4]),
    decays=st.booleans(),
)
def test_importance_is_the_mean_of_attention_rows(seed, kv_heads, softmax, additive, heads, decays):
    assume(not isinstance(heads, int) or softmax == "all" or decays)
    generator = torch.Generator().manual_seed(seed)
    width, size = 7, 4
    query = torch.randn(2, 4, width, size, generator=generator, dtype=torch.float64)
    key = torch.randn(2, kv_heads, width, size, generator=generator, dtype=torch.float64)
    visual = torch.rand(2, width, generator=generator) > 0.4
    attended = torch.ones(2, width, dtype=torch.bool)
    attended[1, :2] = False
    slots = Slots.of_input(visual, attended)
    chosen = (torch.rand(2, width, generator=generator) > 0.5) & attended
    chosen[:, -1] = True
    seen = torch.rand(2, 1, width, width, generator=generator) > 0.2
    seen = seen & attended[:, None, None, :]
    bias = torch.zeros(seen.shape, dtype=torch.float64).masked_fill(
        ~seen, torch.finfo(torch.float64).min
    )

    decay = torch.rand(2, width, width, generator=generator, dtype=torch.float64) + 0.1

    def visible(order):
        mask = bias if additive else seen
        return masks.visible(
            mask, slots.index.gather(1, order), slots.index, slots.present, causal=True
        )

    found = importance(
        AttentionInputs(query, key, 0.5, None),
        ChosenRows.of(chosen, slots.visual, slots.present).among(slots),
        slots.visual,
        visible,
        heads=heads,
        softmax=softmax,
        decay=(lambda order: decay.gather(1, order[:, :, None].expand(-1, -1, width)))
        if decays
        else None,
    )
    repeated = key.repeat_interleave(4 // kv_heads, dim=1)
    for row in range(2):
        allowed = seen[row, 0] & (slots.visual[row] if softmax == "visual" else True)
        weights = (query[row] @ repeated[row].transpose(1, 2) * 0.5).masked_fill(
            ~allowed, -math.inf
        )
        weights = weights.softmax(-1).nan_to_num(0.0) / (decay[row] if decays else 1)
        taken = heads or range(4)
        if isinstance(heads, int):
            given = weights[:, chosen[row]][:, :, slots.visual[row]].sum((1, 2))
            assume(bool((given.sort().values.diff() > 1e-9).all()))  # a tie is one of rounding
            taken = sorted(range(4), key=lambda head: (-float(given[head]), head))[:heads]
        weights = weights[taken][:, chosen[row]]
        assert torch.allclose(found[row], weights.mean((0, 1)))


@pytest.mark.parametrize("heads", [None, 1])
def test_many_rows_are_read_in_blocks(monkeypatch, heads):
    """The same scores, however few rows are read at once."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 2, 9, 4, generator=generator, dtype=torch.float64)
    key = torch.randn(1, 2, 9, 4, generator=generator, dtype=torch.float64)
    slots = Slots.of_input(torch.ones(1, 9, dtype=torch.bool), torch.ones(1, 9, dtype=torch.bool))

    def visible(order):
        return masks.visible(None, order, slots.index, slots.present, causal=True)

    def score():
        rows = ChosenRows.of(slots.present, slots.visual, slots.present).among(slots)
        return importance(
            AttentionInputs(query, key, 0.5, 2.0), rows, slots.visual, visible, heads=heads
        )

    whole = score()
    monkeypatch.setattr("tokenlens.pruning.attention_rows._LARGEST_BLOCK", 40)
    assert torch.allclose(score(), whole)


def test_arrange_puts_the_kept_last_and_in_order():
    index = torch.tensor([[7, 2, 5, 0], [1, 3, 0, 0]])
    keep = torch.tensor([[True, True, True, False], [True, True, False, False]])
    order = arrange(index, keep, 3)
    assert index.gather(1, order).tolist() == [[2, 5, 7], [0, 1, 3]]


def test_draws_depend_on_seed_stage_and_question():
    visual = torch.tensor([[False, True, True, True, False]])
    slots = Slots.of_input(visual, torch.ones_like(visual))

    def draw(ids, stage=0, seed=0):
        prompt = Prompt(torch.tensor([ids]), visual, torch.ones_like(visual), 5)
        scorer = Scorer(query="random", seed=seed)
        tokens = Tokens(slots.index[..., None], slots)
        return random_scores(prompt, tokens, StageContext(stage, (1,)), scorer)[0, 1:4].tolist()

    first = draw([1, 2, 2, 2, 3])
    assert first == draw([1, 2, 2, 2, 3])
    assert first != draw([1, 2, 2, 2, 4])
    assert first != draw([1, 2, 2, 2, 3], stage=1)
    assert first != draw([1, 2, 2, 2, 3], seed=1)
    assert len(set(first)) == 3


@pytest.mark.parametrize("kind", ["none", "bool", "float", "flat"])
def test_masks_of_new_tokens_are_read_at_the_stored_keys(kind):
    """Stored keys 1 and 3 of a prompt of 4, one of them a filler in the second sample."""
    index = torch.tensor([[1, 3], [0, 3]])
    present = torch.tensor([[True, True], [False, True]])
    full = torch.tensor([[0, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    mask = {
        "none": None,
        "bool": full[:, None, None, :],
        "float": torch.where(full, 0.0, torch.finfo(torch.float32).min)[:, None, None, :],
        "flat": full,
    }[kind]
    found = masks.extend(mask, index, present, later_from=4, keys=6, queries=1, flat=kind == "flat")
    if kind == "none":
        expected = [[True, True, True, True], [False, True, True, True]]
    else:
        expected = [[True, False, True, True], [False, True, True, True]]
    found = found if kind == "flat" else found[:, 0, 0]
    if kind == "float":
        found = found == 0
    assert found.tolist() == expected
    assert masks.extend(None, index, None, later_from=4, keys=6, queries=1, flat=False) is None


def test_the_first_go_before_better_ones():
    scores = torch.tensor([[0.9, 0.1, 0.3, 0.8]])
    candidates = torch.tensor([[True, True, True, False]])
    first = torch.tensor([[False, True, True, True]])
    for keep, expected in enumerate(([], [2], [1, 2], [0, 1, 2])):
        found = select(scores, candidates, [keep], first)
        assert found[0].nonzero().flatten().tolist() == expected
    assert select(scores, candidates, [1])[0].nonzero().tolist() == [[0]], "the control"


def test_a_grid_is_of_each_picture():
    """A picture of 4 x 4, one of 10 tokens that is no square, and padding before both."""
    visual = torch.tensor([[False, False, *[True] * 16, False, *[True] * 10, False]])
    assert on_grid(visual, 3)[0].nonzero().flatten().tolist() == [2, 5, 14, 17, 19, 28]
    assert on_grid(visual, 2)[0].nonzero().flatten().tolist() == [2, 4, 10, 12, 19, 23, 27]
    assert not on_grid(torch.zeros(2, 5, dtype=torch.bool), 3).any()


@pytest.mark.parametrize(
    ("chosen", "visual", "attended"),
    [
        ("0000011", "0111000", "1111111"),  # behind the picture: never moved
        ("0000011", "0111000", "1111011"),  # with padding between them, which stages remove
        ("1000001", "0111000", "1111111"),  # on both sides of it
        ("0010001", "0111000", "1111111"),  # a visual token among them
        ("1111111", "0111000", "1111111"),  # everything
    ],
)
def test_chosen_rows_are_found_again_after_tokens_left(chosen, visual, attended):
    chosen, visual, attended = (
        torch.tensor([[mark == "1" for mark in marks]]) for marks in (chosen, visual, attended)
    )
    chosen = chosen & attended
    rows = ChosenRows.of(chosen, visual, attended)
    slots = Slots.of_input(visual, attended)
    tokens = Tokens(torch.zeros(1, 7, 1), slots)
    leaving = visual & (torch.arange(7) != 2)
    count = int((attended & ~leaving).sum())
    for now in (tokens, tokens.take(attended & ~leaving, (count,), (1,))):
        found = rows.among(now.slots)
        places = now.slots.index.gather(1, found.order)
        if found.valid is not None:
            places = places[found.valid][None]
        expected = now.slots.index[chosen.gather(1, now.slots.index) & now.slots.present]
        assert places.tolist() == [expected.tolist()]
        assert found.counts == (len(expected),)
