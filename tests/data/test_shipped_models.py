"""Bundled models as they ship: files, processors, weights and scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
)

import tokenlens as tl
from tokenlens.data import make_scenes
from tokenlens.data.training.families import FAMILIES
from tokenlens.data.training.pictures import draw
from tokenlens.data.training.score import groups
from tokenlens.models.aliases import BUNDLED

DATA = Path(make_scenes.__file__).parent

shipped = pytest.mark.parametrize("name", list(BUNDLED))


@shipped
def test_shipped_directory_is_small_and_complete(name: str) -> None:
    files = {path.name: path.stat().st_size for path in (DATA / name).iterdir()}
    assert sum(files.values()) <= 16 * 2**20
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    config = json.loads((DATA / name / "config.json").read_text(encoding="utf-8"))
    assert config["text_config"]["num_hidden_layers"] == 24


@shipped
def test_shipped_tokenizer_and_processor_are_the_recipes(name: str) -> None:
    family = FAMILIES[name]
    ours, theirs = family.tokenizer(), AutoTokenizer.from_pretrained(DATA / name)
    assert theirs.get_vocab() == ours.get_vocab()
    assert theirs.eos_token_id == ours.get_vocab()["<|im_end|>"]
    assert theirs.padding_side == "left"
    image = draw("test", 0)[1]
    pixels = AutoImageProcessor.from_pretrained(DATA / name)(image, return_tensors="pt")
    for key, value in family.image_processor()(image, return_tensors="pt").items():
        assert torch.equal(pixels[key], value)
    vlm = tl.load(name)
    inputs = vlm.prepare(image, "where is the red circle ?")
    packed = f"{family.prefix()}where is the red circle ?{family.suffix}"
    assert inputs["input_ids"][0].tolist() == ours(packed)["input_ids"]


@shipped
def test_shipped_layers_all_write_into_the_residual_stream(name: str) -> None:
    model = AutoModelForImageTextToText.from_pretrained(DATA / name, dtype=torch.float32)
    for layer in FAMILIES[name].decoder(model).layers:
        assert layer.self_attn.o_proj.weight.norm() > 0.5
        assert layer.mlp.down_proj.weight.norm() > 0.5


@shipped
@pytest.mark.parametrize(("prefix", "bar"), [("one look", 0.9), ("two looks", 0.75)])
def test_shipped_model_answers_held_out_questions(name: str, prefix: str, bar: float) -> None:
    samples = tl.load_samples("scenes", "held-out", limit=80)
    rows = tl.evaluate(tl.load(name), samples, batch_size=40).rows
    assert dict(groups(rows))[prefix].mean() >= bar
