"""Rows of a whole batch are those of its samples, one by one."""

import pytest
import torch

from tokenlens.probing import attention_call
from tokenlens.probing.attention_call import AttentionCall

HEADS, KEYS, SIZE, BATCH = 4, 12, 8, 3


def call(mask: torch.Tensor | None, cached: int = 0, keys: int = KEYS) -> AttentionCall:
    torch.manual_seed(0)
    module = torch.nn.Module()
    query = torch.randn(BATCH, HEADS, KEYS, SIZE)
    key = torch.randn(BATCH, HEADS // 2, keys, SIZE)
    return AttentionCall.of(module, query, key, key, mask, {}, cached)


def left_padded() -> torch.Tensor:
    seen = torch.ones(BATCH, 1, KEYS, KEYS, dtype=torch.bool).tril()
    seen[1, :, :, :3] = False
    return seen


@pytest.mark.parametrize("ragged", [False, True], ids=["alike", "ragged"])
@pytest.mark.parametrize("per_head", [False, True], ids=["mean", "heads"])
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize(
    "given", [call(None), call(left_padded()), call(None, cached=6, keys=KEYS)],
    ids=["causal", "padded", "window left keys behind"],
)  # fmt: skip
def test_together_as_one_by_one(
    given: AttentionCall, scaled: bool, per_head: bool, ragged: bool, monkeypatch
) -> None:
    last = given.cached + KEYS - 1
    first = max(0, given.cached - 2)  # a window has left two of the keys behind
    positions = [first + torch.arange(own, 5 + own) for own in (4, 5, 0)]
    positions[1] = positions[1][: 3 if ragged else 5]
    scales = [torch.rand(HEADS, len(one)) for one in positions] if scaled else None
    places = [[last]] * BATCH
    together = given.rows_of_all(places, positions, per_head=per_head, scales=scales)
    monkeypatch.setattr(attention_call, "_MOST_TOGETHER", 0)
    apart = given.rows_of_all(places, positions, per_head=per_head, scales=scales)
    other = given.rows_of_all([[last - 1]] * BATCH, positions, per_head=per_head, scales=scales)
    for one, alone, wrong in zip(together, apart, other, strict=True):
        torch.testing.assert_close(one, alone, rtol=1e-6, atol=1e-7)
        assert not torch.allclose(one, wrong)


def test_places_that_differ_are_read_one_by_one() -> None:
    given, positions = call(None), [torch.arange(4)] * BATCH
    rows = given.rows_of_all([[11], [10], [9, 11]], positions, per_head=False, scales=None)
    assert [len(one[0]) for one in rows] == [1, 1, 2]
    torch.testing.assert_close(
        rows[2][:, 1:], given.visual_rows(2, [11], positions[2], per_head=False)
    )
