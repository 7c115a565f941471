"""Scoring before a layer: keys of all tokens, queries of the rows that are read, no values."""

import pytest
import torch

import tokenlens as tl
from tests.support.engine_support import ONE, RAGGED, batch, model64, schedule, stage
from tests.support.families import ONE as ONE_PICTURE
from tests.support.families import case
from tests.support.family_plans import plan_for
from tokenlens.models.structure import decoder_layers
from tokenlens.pruning import stage_scores
from tokenlens.pruning.projections import for_scores

STAGES = [stage(2, "after", 0.5, "bypass", merge=0.2), stage(4, "before", 0.3)]
ORDER = torch.tensor([[1, 6], [0, 5]])


@pytest.mark.parametrize("name", ["Qwen2-VL", "LLaVA + Phi3", "LLaVA + Olmo2", "Gemma3"])
def test_what_is_read_is_what_the_projections_make(name):
    attention = decoder_layers(case(name, ONE_PICTURE).model)[0].self_attn
    dtype = next(attention.parameters()).dtype
    width = next(attention.parameters()).shape[-1]
    names = [one for one in ("q_proj", "k_proj", "v_proj", "qkv_proj") if hasattr(attention, one)]
    states = torch.randn(2, 7, width, dtype=dtype, generator=torch.Generator().manual_seed(0))

    def made():
        with torch.no_grad():
            return [getattr(attention, one)(states) for one in names]

    whole = made()
    with for_scores(attention, ORDER) as spared:
        assert spared
        few = made()
    with for_scores(attention, None):
        values_only = made()
    assert all(map(torch.equal, made(), whole)), "and afterwards everything is as before"
    if len(names) == 1:
        heads, size = attention.config.num_attention_heads, attention.head_dim
        parts = [heads * size, attention.config.num_key_value_heads * size]
        parts.append(whole[0].shape[-1] - sum(parts))
        whole, few, values_only = (one[0].split(parts, -1) for one in (whole, few, values_only))
    rows = torch.zeros(2, 7, 1, dtype=torch.bool).scatter(1, ORDER[..., None], True)
    assert torch.allclose(few[0], whole[0] * rows, atol=1e-12)
    assert not torch.allclose(few[0], whole[0], atol=1e-3), "the control: others are left out"
    assert torch.allclose(values_only[0], whole[0], atol=1e-12)
    assert torch.allclose(few[1], whole[1], atol=1e-12)
    assert not few[2].any()
    assert whole[2].any()


@pytest.mark.parametrize("query", ["last", "text", "all"])
@pytest.mark.parametrize("sizes", [ONE, RAGGED])
def test_importance_is_that_of_whole_projections(query, sizes, monkeypatch):
    model, plan = model64(), schedule(*STAGES, query=query)

    def scores():
        with torch.no_grad(), tl.prune(model, plan) as trace:
            model(**batch(model, sizes))
        return trace.stages[1].scores

    few = scores()
    monkeypatch.setattr(stage_scores, "for_scores", _everything)
    for one, other in zip(few, scores(), strict=True):
        assert torch.allclose(one, other, atol=1e-12)


class _everything:  # noqa: N801 - stands for a function
    def __init__(self, *_):
        pass

    def __enter__(self):
        return False

    def __exit__(self, *_):
        pass


def test_only_the_rows_that_are_read_are_projected():
    found = case("Qwen2-VL", ONE_PICTURE)
    layer, rows = decoder_layers(found.model)[3], []
    plan = plan_for(found.model, STAGES)
    for name in ("q_proj", "k_proj", "v_proj"):
        own = getattr(layer.self_attn, name).forward

        def noting(states, own=own, name=name):
            rows.append((name, states.shape[1]))
            return own(states)

        getattr(layer.self_attn, name).forward = noting
    try:
        with torch.no_grad(), tl.prune(found.model, plan) as trace:
            found.model(**found.inputs)
    finally:
        for name in ("q_proj", "k_proj", "v_proj"):
            del getattr(layer.self_attn, name).forward
    (candidates,) = trace.stages[1].candidates
    scored = rows[:2]
    assert dict(scored)["q_proj"] == 1
    assert dict(scored)["k_proj"] > len(candidates)
    assert [name for name, _ in rows[2:]] == ["q_proj", "k_proj", "v_proj"], "the layer itself"
