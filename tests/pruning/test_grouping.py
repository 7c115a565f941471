"""Merged tokens against means taken one group at a time, and nearest seeds in blocks."""

import pytest
import torch

from tokenlens.pruning import grouping
from tokenlens.pruning.tokens import Slots, Tokens

MERGING = (4, 2)


@pytest.fixture
def rest() -> Tokens:
    torch.manual_seed(0)
    there = torch.ones(2, 11, dtype=torch.bool)
    there[1, :4] = False
    return Tokens(torch.randn(2, 11, 6, dtype=torch.float64), Slots.of_input(there, there))


def test_a_merged_token_is_the_mean_of_its_group(rest):
    merged, member_of, order = grouping.group(rest, MERGING)
    assert torch.equal(rest.slots.index.gather(1, order)[merged.slots.present], _places(merged))
    for sample, count in enumerate(MERGING):
        there = rest.slots.present[sample]
        for seed in range(max(MERGING) - count, max(MERGING)):
            states = rest.hidden[sample][there & (member_of[sample] == seed)]
            assert len(states)
            assert torch.allclose(merged.hidden[sample, seed], states.mean(0), atol=1e-14)


def _places(merged):
    return merged.slots.index[merged.slots.present]


def test_the_nearest_seeds_do_not_depend_on_the_size_of_a_block(rest, monkeypatch):
    whole = grouping.group(rest, MERGING)
    monkeypatch.setattr(grouping, "_LARGEST_BLOCK", 1)
    in_blocks = grouping.group(rest, MERGING)
    assert torch.equal(whole.member_of, in_blocks.member_of)
    assert torch.allclose(whole.merged.hidden, in_blocks.merged.hidden, atol=1e-14)


def test_a_group_without_members_is_zero_and_fillers_are_in_no_group():
    states, members = torch.ones(1, 3, 2), torch.tensor([[True, False, True]])
    means = grouping.group_means(states, torch.tensor([[0, 1, 0]]), members, 2)
    assert means.tolist() == [[[1.0, 1.0], [0.0, 0.0]]]
    states[0, 1] = torch.nan
    assert grouping.group_means(states, torch.tensor([[0, 0, 0]]), members, 1).tolist() == [
        [[1, 1]]
    ]


def test_seeds_are_placed_once_for_the_same_counts(rest):
    first = grouping.Seeds.among(rest.slots, MERGING, grouping._evenly)
    assert grouping.Seeds.among(rest.slots, MERGING, grouping._evenly) is first
    assert grouping.Seeds.among(rest.slots, (3, 2), grouping._evenly) is not first


def test_a_context_in_inference_mode_leaves_nothing_that_a_backward_pass_cannot_use(rest):
    grouping._seeds.cache_clear()
    with torch.inference_mode():
        grouping.group(rest, MERGING)
    hidden = rest.hidden.clone().requires_grad_()
    merged = grouping.group(rest._replace(hidden=hidden), MERGING).merged
    merged.hidden[merged.slots.present].sum().backward()
    assert torch.isfinite(hidden.grad).all()
