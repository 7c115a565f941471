"""A checkpoint whose files turn the cache off, as granite-docling's generation config does."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import tokenlens as tl
from tests.support.layout_families import FAMILIES, local_vlm
from tokenlens.errors import PruningError
from tokenlens.samples.sample import Sample

PUBLISHED = {
    "_from_model_config": True,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
    "transformers_version": "4.56.1",
    "use_cache": False,
}


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    """Idefics3 as published, small and random: text_config and generation_config say no cache."""
    folder = tmp_path_factory.mktemp("granite")
    made = local_vlm(FAMILIES["idefics3"])
    made.model.config.text_config.use_cache = False
    made.model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(PUBLISHED))
    model = type(made.model).from_pretrained(folder)
    assert model.generation_config.use_cache is False
    assert model.config.text_config.use_cache is False
    return tl.VLM.wrap(model, made.processor)


@pytest.fixture(scope="module")
def samples():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    return [
        Sample(str(index), Image.fromarray(one), "where ?", ("here",), boxes=((0, 0, 40, 40),))
        for index, one in enumerate(pixels)
    ]


@pytest.fixture(scope="module")
def plan(vlm):
    stage = {"score_layer": 0, "when": "after", "keep": 0.5, "disposal": "drop"}
    model = {"architecture": vlm.architecture, "layers": vlm.layers}
    scorer = {"query": "diverse"}
    return tl.Schedule(schema=1, method="test", model=model, scorer=scorer, stages=[stage])


def test_it_is_evaluated_pruned_and_unpruned(vlm, samples, plan):
    for schedule in (None, plan):
        results = tl.evaluate(vlm, samples, schedule)
        assert len(results.rows) == len(samples)


def test_the_answers_are_those_with_the_cache(vlm, samples, plan):
    """Decoding runs one token at a time, after the prefill and that of the warm-up."""
    inputs = vlm.prepare(samples[0].open_image(), samples[0].question)
    widths = []
    handle = vlm.model.model.text_model.layers[0].register_forward_pre_hook(
        lambda _, args: widths.append(args[0].shape[1])
    )
    tl.evaluate(vlm, samples[:1], plan, max_new_tokens=3)
    handle.remove()
    assert sum(width > 1 for width in widths) == 2
    assert widths.count(1) >= 2
    with torch.no_grad():
        plain = vlm.model.generate(**inputs, max_new_tokens=4, use_cache=True)
        assert torch.equal(plain, vlm.model.generate(**inputs, max_new_tokens=4))


def test_a_users_own_generate_is_told_what_to_pass(vlm, samples, plan):
    inputs = vlm.prepare(samples[0].open_image(), samples[0].question)
    told = r"\A[^\n]*pass generate\(\.\.\., use_cache=True\)[^\n]*\Z"
    with tl.prune(vlm, plan):
        with pytest.raises(PruningError, match=told):
            vlm.model.generate(**inputs, max_new_tokens=3)
        vlm.model.generate(**inputs, max_new_tokens=3, use_cache=True)
    vlm.model.generation_config.use_cache = None
    try:
        with tl.prune(vlm, plan):
            vlm.model.generate(**inputs, max_new_tokens=3)
    finally:
        vlm.model.generation_config.use_cache = False


def test_a_probe_sees_the_prompt_in_both(vlm, samples):
    inputs = vlm.prepare(samples[0].open_image(), samples[0].question)
    with tl.probe(vlm) as plain, torch.no_grad():
        vlm.model(**inputs)
    with tl.probe(vlm) as recording:
        vlm.model.generate(**inputs, max_new_tokens=3)
    assert (plain.importance[0] - recording.importance[0]).abs().max() < 1e-6
