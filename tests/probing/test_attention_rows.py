"""Attention rows: one formula, bit for bit what the probe and the engine each computed before."""

import itertools

import pytest
import torch

from tokenlens.probing.attention_weights import attention_weights, scaling_of

LOWEST = torch.finfo(torch.float32).min
CASES = list(
    itertools.product(
        (torch.float32, torch.bfloat16, torch.float64),
        (1, 3),
        (None, 30.0),
        ("bool", "lowest", "infinite"),
    )
)


def inputs(
    dtype: torch.dtype, groups: int, mask: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query [2, heads, rows, size], key [2, kv heads, keys, size], and which keys rows see."""
    torch.manual_seed(groups)
    query = torch.randn(2, 2 * groups, 5, 16, dtype=torch.float64).mul(3).to(dtype)
    key = torch.randn(2, 2, 41, 16, dtype=torch.float64).mul(3).to(dtype)
    seen = torch.rand(2, 1, 5, 41) < 0.7
    seen[..., 0] = True
    if mask == "bool":
        return query, key, seen
    hidden = LOWEST if mask == "lowest" else -torch.inf
    return query, key, torch.zeros(seen.shape).masked_fill(~seen, hidden)


def probed_before(query, key, *, scaling, bias, softcap):
    """The probe's own formula of before: one token's query [heads, size], always in float32."""
    heads, head_dim = query.shape
    groups = query.float().view(key.shape[0], -1, head_dim)
    products = (groups @ key.float().transpose(1, 2)).view(heads, -1) * scaling
    if softcap is not None:
        products = softcap * torch.tanh(products / softcap)
    return torch.softmax(products + bias, dim=-1)


def pruned_before(query, key, seen, *, scaling, softcap):
    """The engine's own formula of before: many rows at once, in the dtype it accumulates in."""
    key = key.transpose(2, 3)
    groups = query.shape[1] // key.shape[1]
    grouped = query.unflatten(1, (-1, groups)).flatten(2, 3)
    logits = (grouped @ key).unflatten(2, (groups, -1)).flatten(1, 2) * scaling
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    blocked = torch.finfo(seen.dtype if seen.is_floating_point() else logits.dtype).min
    if seen.is_floating_point():
        logits, seen = logits + seen, seen > blocked / 2
    return logits.masked_fill(~seen, blocked).softmax(dim=-1) * seen


@pytest.mark.parametrize(("dtype", "groups", "softcap", "mask"), CASES)
def test_the_probes_rows_are_what_they_were(dtype, groups, softcap, mask) -> None:
    query, key, seen = inputs(dtype, groups, mask)
    bias = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf) if mask == "bool" else seen
    for sample, row in itertools.product(range(2), range(5)):
        options = {"scaling": 0.3, "softcap": softcap, "bias": bias[sample, :, row]}
        before = probed_before(query[sample, :, row], key[sample], **options)
        asked, keys = query[sample, :, row].float()[:, None], key[sample].float()
        seen_from = options.pop("bias")[:, None]
        now = attention_weights(asked, keys, seen_from, **options)[:, 0]
        assert torch.equal(now, before)
        assert now.dtype == torch.float32


@pytest.mark.parametrize(("dtype", "groups", "softcap", "mask"), CASES)
def test_the_engines_rows_are_what_they_were(dtype, groups, softcap, mask) -> None:
    query, key, seen = inputs(dtype, groups, mask)
    wide = torch.promote_types(dtype, torch.float32)
    query, key = query.to(wide), key.to(wide)
    before = pruned_before(query, key, seen, scaling=0.3, softcap=softcap)
    now = attention_weights(query, key, seen, scaling=0.3, softcap=softcap)
    assert torch.equal(now, before)


def test_a_row_that_sees_nothing_is_zero() -> None:
    query, key, seen = inputs(torch.float32, 1, "bool")
    seen[1, :, 2] = False
    weights = attention_weights(query, key, seen, scaling=0.3)
    assert torch.equal(weights[1, :, 2], torch.zeros(2, 41))
    assert torch.allclose(weights[0].sum(-1), torch.ones(2, 5))


def test_scaling_is_the_calls_own_and_zero_is_a_scaling() -> None:
    query = torch.zeros(1, 1, 1, 16)
    assert scaling_of(query, {}) == scaling_of(query, {"scaling": None}) == 0.25
    assert scaling_of(query, {"scaling": 0.5}) == 0.5
    assert scaling_of(query, {"scaling": 0.0}) == 0.0
