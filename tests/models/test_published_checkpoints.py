"""Checkpoints as they are published: what their files say, held against what is made of them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Ended
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tests.support.layout_families import FAMILIES, idefics3, local_vlm
from tokenlens.errors import ModelError
from tokenlens.evaluation.running.evaluate import evaluate
from tokenlens.models.loading import load
from tokenlens.samples.dataset import load_samples

Command = Callable[..., Ended]
ONLY_CONFIG = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "model_type": "qwen2_5_vl",
    "image_token_id": 151655,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "torch_dtype": "bfloat16",
    "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
    "vision_config": {"depth": 2, "hidden_size": 64, "num_heads": 2, "out_hidden_size": 256},
}
"""Flat, as the first checkpoints of the family are."""


def test_a_generation_config_that_turns_the_cache_off_loads_and_is_costed(
    tmp_path: Path, command: Command
) -> None:
    model, processor = idefics3()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_cache": False}))
    vlm = load(tmp_path / "model", device="cpu")
    assert vlm.model.generation_config.use_cache is False
    assert len(vlm.layout(vlm.prepare(Image.new("RGB", (90, 60)), "what ?"))[0].positions)
    ended = command("cost", "--model", "model", "--method", "divprune", "--budget", "50%")
    assert ended.code == 0, ended.err


def test_cost_of_a_directory_with_nothing_but_its_config(tmp_path: Path, command: Command) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(ONLY_CONFIG))
    arguments = ("cost", "--model", "model", "--method", "fastv", "--json")
    assumed = json.loads(command(*arguments).out)
    assert (assumed["prompt"]["visual"], assumed["prompt"]["text"]) == (576, 64)
    (note,) = [note for note in assumed["notes"] if "assumed" in note]
    assert "576 visual tokens" in note
    assert "64 text tokens" in note
    some = json.loads(command(*arguments, "--visual-tokens", 256).out)
    assert [note for note in some["notes"] if "64 text" in note and "visual" not in note]
    given = json.loads(command(*arguments, "--visual-tokens", 256, "--text-tokens", 40).out)
    assert (given["prompt"]["visual"], given["prompt"]["text"]) == (256, 40)
    assert not [note for note in given["notes"] if "assumed" in note]
    # n·d·(q + 2k + o) of the projections, with heads of 64: d = q = o = 256, k = 128
    assert given["macs"]["projections"]["unpruned"] == 8 * 296 * 256 * (256 + 2 * 128 + 256)
    ended = command(*arguments, "--picture", "448x448")
    assert "processor" in ended.line
    assert command("profile", "--model", "model").code == 2


def test_a_tokenizer_of_another_checkpoint_is_refused_with_both_ids(
    tmp_path: Path, command: Command
) -> None:
    folder = save_model_directory(tmp_path / "model", tiny_qwen2_vl())
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_token_id": 60}))
    for arguments in (("profile",), ("cost", "--method", "fastv")):
        line = command(*arguments, "--model", "model").line
        assert "'<|image_pad|>' is 6" in line
        assert "image_token_id is 60" in line


@pytest.mark.parametrize("name", [name for name in FAMILIES if "," not in name])
def test_no_familys_tokenizer_and_config_are_taken_to_disagree(name: str, tmp_path: Path) -> None:
    vlm = local_vlm(FAMILIES[name])
    assert vlm.processor is not None
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    assert load(tmp_path, device="cpu").architecture == vlm.architecture


def test_outputs_that_are_no_numbers_are_no_answers() -> None:
    """Weights spoilt after loading: what is checked at loading cannot see them."""
    vlm = load("tiny-qwen2-vl", device="cpu")
    layer = vlm.model.get_decoder().layers[3]
    layer.mlp.up_proj.weight.data[0] = float("nan")
    with pytest.raises(ModelError, match="not a number"):
        evaluate(vlm, load_samples("scenes", "held-out", 2))
