"""A wrapped model: its structure, its inputs, and the hash it is known again by."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tests.support.builders import (
    IMAGE,
    VOCABULARY,
    fake_inputs,
    save_model_directory,
    tiny_image_processor,
    tiny_qwen2_5_vl,
    tiny_qwen2_vl,
    tiny_tokenizer,
)
from tokenlens.errors import ModelError, SampleError, UnknownLayoutWarning
from tokenlens.models import layout
from tokenlens.models.adapters import ADAPTERS, support_table
from tokenlens.models.aliases import ALIASES, BUNDLED, HUB_IDS
from tokenlens.models.loading import load
from tokenlens.models.structure import decoder_layers, image_token_id, unwrap, visual_mask
from tokenlens.models.vlm import VLM

QUESTIONS = ["where is the star ?", "what colour is the circle in the square ?", "how many ?"]


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> VLM:
    model = tiny_qwen2_vl(layers=2, merge=2)
    return load(save_model_directory(tmp_path_factory.mktemp("model"), model), device="cpu")


def pictures() -> list[Image.Image]:
    sizes = [(40, 30), (20, 64), (33, 33)]
    return [Image.effect_noise(size, 80).convert("RGB") for size in sizes]


def tiny_llava() -> LlavaForConditionalGeneration:
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=8, patch_size=4,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=3,
        num_attention_heads=2,
    )  # fmt: skip
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=6)
    )


def test_structure_is_found_without_naming_a_family() -> None:
    for model, layers in ((tiny_qwen2_vl(3), 3), (tiny_qwen2_5_vl(2), 2), (tiny_llava(), 3)):
        assert unwrap(model) is model
        assert unwrap(VLM.wrap(model)) is model
        assert len(decoder_layers(model)) == VLM.wrap(model).layers == layers
        ids = torch.tensor([[1, image_token_id(model)], [2, 3]])
        assert visual_mask(model, ids).tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize("thing", [None, "qwen", torch.nn.Linear(1, 1)])
def test_what_is_no_model_is_refused(thing: Any) -> None:
    with pytest.raises(ModelError, match=r"expected a tokenlens\.VLM or a Hugging Face model"):
        unwrap(thing)


def test_a_text_model_is_refused() -> None:
    config = Qwen2Config(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    with pytest.raises(ModelError, match="Qwen2ForCausalLM is no vision-language model"):
        VLM.wrap(Qwen2ForCausalLM(config))


def test_wrapping_puts_the_model_in_eval_mode_and_keeps_its_name() -> None:
    model = tiny_qwen2_vl().train()
    vlm = VLM.wrap(model, id="mine", revision="abc")
    assert not model.training
    assert (vlm.id, vlm.revision) == ("mine", "abc")
    assert vlm.architecture == "Qwen2VLForConditionalGeneration"
    assert vlm.dtype == torch.float32
    assert vlm.device.type == "cpu"
    assert vlm.decoder_config.num_hidden_layers == vlm.layers == 4


def test_a_batch_holds_what_its_samples_hold_alone(vlm: VLM) -> None:
    batch = vlm.prepare(pictures(), QUESTIONS)
    for index, (picture, question) in enumerate(zip(pictures(), QUESTIONS, strict=True)):
        alone = vlm.prepare(picture, question)
        length = alone["input_ids"].shape[1]
        for key in ("input_ids", "attention_mask", "mm_token_type_ids"):
            assert torch.equal(batch[key][index, -length:], alone[key][0]), key
        assert not batch["attention_mask"][index, :-length].any()
        assert torch.equal(batch["image_grid_thw"][index], alone["image_grid_thw"][0])
    vlm.model(**batch)


def test_the_placeholder_is_expanded_to_the_merged_grid(vlm: VLM) -> None:
    inputs = vlm.prepare(pictures()[0], QUESTIONS[0])
    t, h, w = inputs["image_grid_thw"][0].tolist()
    assert (inputs["input_ids"] == VOCABULARY[IMAGE]).sum() == t * h * w // 4
    processor: Any = vlm.processor
    text = processor.tokenizer.decode(inputs["input_ids"][0])
    assert text.startswith("<|im_start|> user <|vision_start|> <|image_pad|>")
    assert text.endswith("<|vision_end|> where is the star ? <|im_end|> <|im_start|> assistant")


def test_pictures_come_as_paths_too(vlm: VLM, tmp_path: Path) -> None:
    pictures()[0].convert("CMYK").save(tmp_path / "p.tif")
    from_path = vlm.prepare(tmp_path / "p.tif", QUESTIONS[0])
    again = vlm.prepare(str(tmp_path / "p.tif"), QUESTIONS[0])
    assert torch.equal(from_path["pixel_values"], again["pixel_values"])
    with pytest.raises(SampleError, match="no such picture"):
        vlm.prepare(tmp_path / "nowhere.png", QUESTIONS[0])


def test_inputs_that_cannot_be_prepared(vlm: VLM) -> None:
    with pytest.raises(SampleError, match="3 questions needs a list of as many pictures"):
        vlm.prepare(pictures()[0], QUESTIONS)
    with pytest.raises(SampleError, match="got 2 pictures for 3 questions"):
        vlm.prepare(pictures()[:2], QUESTIONS)
    with pytest.raises(SampleError, match="empty list"):
        vlm.prepare([], [])
    with pytest.raises(SampleError, match="aspect ratio"):
        vlm.prepare(Image.new("RGB", (900, 3)), QUESTIONS[0])
    with pytest.raises(SampleError, match="processor refused"):
        vlm.prepare(pictures()[0], "what is <|image_pad|> ?")
    with pytest.raises(ModelError, match="without a processor"):
        VLM.wrap(vlm.model).prepare(pictures()[0], QUESTIONS[0])


def test_a_processor_without_a_chat_template_is_a_model_error(tmp_path: Path) -> None:
    vlm = load(save_model_directory(tmp_path), device="cpu")
    processor: Any = vlm.processor
    processor.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        vlm.prepare(pictures()[0], QUESTIONS[0])


def test_answers_are_decoded_without_special_tokens(vlm: VLM) -> None:
    ids = tiny_tokenizer()("red circle <|im_end|> <|endoftext|>")["input_ids"]
    assert vlm.decode(torch.tensor([ids])) == ["red circle"]
    assert vlm.decode([ids, ids]) == ["red circle"] * 2


def test_prepared_inputs_take_the_models_dtype(tmp_path: Path) -> None:
    vlm = load(save_model_directory(tmp_path), device="cpu", dtype="bf16")
    inputs = vlm.prepare(pictures()[0], QUESTIONS[0])
    assert inputs["pixel_values"].dtype == vlm.dtype == torch.bfloat16
    assert inputs["input_ids"].dtype == torch.int64


def test_the_hash_tells_checkpoints_apart_and_nothing_else(tmp_path: Path) -> None:
    model = tiny_qwen2_vl(dtype=torch.bfloat16)
    hashes = {VLM.wrap(model).config_hash}
    folder = save_model_directory(tmp_path, model)
    for dtype in ("float32", "bfloat16"):
        loaded = load(folder, device="cpu", dtype=dtype)
        hashes.add(loaded.config_hash)
        loaded.model.set_attn_implementation("eager")
        hashes.add(VLM.wrap(loaded.model).config_hash)
    assert len(hashes) == 1
    hashes.add(VLM.wrap(tiny_qwen2_vl(seed=1)).config_hash)
    hashes.add(VLM.wrap(tiny_qwen2_vl(layers=3)).config_hash)
    changed = tiny_qwen2_vl(dtype=torch.bfloat16)
    changed.config.get_text_config().rms_norm_eps = 1e-3
    hashes.add(VLM.wrap(changed).config_hash)
    assert len(hashes) == 4


def test_a_family_without_an_adapter_has_flat_indices_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vlm = VLM.wrap(tiny_llava())
    inputs = {"input_ids": torch.tensor([[6, 1, 6], [1, 1, 6]])}
    monkeypatch.setattr(layout, "find_adapter", lambda config: None)
    with pytest.warns(UnknownLayoutWarning, match=r"model type 'llava' has no adapter.*Qwen2-VL"):
        one, two = vlm.layout(inputs)
    assert one.positions.tolist() == [0, 2]
    assert two.positions.tolist() == [2]
    assert one.boxes.shape == (2, 4)
    assert one.boxes.isnan().all()
    assert not one.placed
    assert one.image_index.tolist() == [-1, -1]
    assert one.grid == ((1, 1, 2),)


def test_a_layout_says_what_it_lacks() -> None:
    vlm = VLM.wrap(tiny_llava())
    inputs: dict[str, Any] = {"input_ids": torch.tensor([[6, 6, 6, 6]])}
    with pytest.raises(ModelError, match=r"'llava' model hold visual tokens but no pixel_values"):
        vlm.layout(inputs)
    inputs["pixel_values"] = torch.zeros(1, 3, 8, 8)
    with pytest.raises(
        ModelError, match=r"sizes, which these inputs do not carry.*sizes=\[\(width"
    ):
        vlm.layout(inputs)
    with pytest.raises(ModelError, match=r"how its processor treats pictures: give it"):
        vlm.layout(inputs, sizes=[(8, 8)])
    (empty,) = vlm.layout({"input_ids": torch.tensor([[1, 2]])})
    assert empty.boxes.shape == (0, 4)
    assert empty.placed


def test_prepared_inputs_remember_sizes_beside_the_models_inputs(vlm: VLM) -> None:
    inputs = vlm.prepare(pictures()[:2], QUESTIONS[:2])
    assert inputs.sizes == ((40, 30), (20, 64))
    assert "sizes" not in dict(**inputs)
    for again in (inputs.to("cpu"), copy.copy(inputs), pickle.loads(pickle.dumps(inputs))):  # noqa: S301
        assert again.sizes == inputs.sizes
        assert torch.equal(again["input_ids"], inputs["input_ids"])
    assert torch.equal(vlm.layout(dict(inputs))[0].boxes, vlm.layout(inputs)[0].boxes)
    with pytest.raises(ModelError, match="hold 2 pictures but there are 1 sizes"):
        vlm.layout(inputs, sizes=[(40, 30)])


def test_the_fake_inputs_run_and_are_ragged() -> None:
    model = tiny_qwen2_vl(layers=1, merge=2)
    inputs = fake_inputs(model, [[(3, 4)], [(2, 2), (1, 3)], [(2, 2)]])
    logits = model(**inputs).logits
    assert logits.isfinite().all()
    assert inputs["attention_mask"].sum(-1).unique().numel() == 3


def test_the_support_table_follows_adapters_and_aliases() -> None:
    table = {row["family"]: row for row in support_table()}
    assert set(table) == set(HUB_IDS) == {adapter.family for adapter in ADAPTERS.values()}
    assert set(BUNDLED.values()) <= set(table)
    for adapter in ADAPTERS.values():
        assert table[adapter.family]["architecture"] == adapter.architecture
        assert table[adapter.family]["tokens"] == adapter.tokens
        assert hasattr(transformers, adapter.architecture)
        assert ADAPTERS[adapter.model_type] is adapter
    for name, family in BUNDLED.items():
        assert name in table[family]["bundled"]
    listed = [alias for row in table.values() for alias in row["alias"].split("\n")]
    assert set(listed) == set(ALIASES)
    assert len(listed) == sum(map(len, HUB_IDS.values())), "an alias stands twice"


def test_the_image_processor_of_the_builders_is_qwens() -> None:
    made = tiny_image_processor(merge=2)(images=pictures()[0], return_tensors="pt")
    assert (made["image_grid_thw"][0, 1:] % 2 == 0).all()
