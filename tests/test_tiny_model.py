"""The bundled model: its tokenizer, its directory, its answers, and how it was trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2VLForConditionalGeneration,
)

from tokenlens.data.questions import Question, ask, box_answer
from tokenlens.data.scenes import GRID, LETTERS
from tokenlens.data.training import score as scoring
from tokenlens.data.training.answers import END, Curriculum, make_batch
from tokenlens.data.training.export import export
from tokenlens.data.training.growth import grow
from tokenlens.data.training.loop import run_stage
from tokenlens.data.training.model import decoder, make_image_processor, make_model, tower
from tokenlens.data.training.packing import IGNORE, Packed, Packer, packed_logits
from tokenlens.data.training.pictures import draw, pixel_inputs
from tokenlens.data.training.recipe import STAGES
from tokenlens.data.training.tokenizer import make_tokenizer
from tokenlens.data.training.vision import OUTSIDE, token_labels

SHIPPED = Path(scoring.DATA) / "tiny-qwen2-vl"
HELD_OUT = Path(scoring.DATA) / "scenes" / "held-out.jsonl"


# -- tokenizer


@pytest.mark.parametrize("make", [make_tokenizer, lambda: AutoTokenizer.from_pretrained(SHIPPED)])
def test_a_box_is_four_tokens_and_comes_back(
    make: Callable[[], PreTrainedTokenizerFast],
) -> None:
    tokenizer = make()
    for low in range(GRID):
        text = box_answer((low, GRID - low, low + 1, GRID))
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == 4
        assert tokenizer.convert_ids_to_tokens(ids)[0] == text.split(",")[0] + ","
        assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text


def test_questions_tokenise_alike_however_they_are_typed() -> None:
    tokenizer = make_tokenizer()
    wanted = tokenizer("where is the red circle ?")["input_ids"]
    assert tokenizer("where is the red circle?")["input_ids"] == wanted
    assert tokenizer("Where is the  red circle?")["input_ids"] == wanted
    assert tokenizer.unk_token_id not in wanted
    assert tokenizer("zebra")["input_ids"] == [tokenizer.unk_token_id]


def test_every_word_of_questions_and_answers_is_known() -> None:
    tokenizer = make_tokenizer()
    for line in HELD_OUT.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        ids = tokenizer(f"{row['question']} {row['answer']}")["input_ids"]
        assert tokenizer.unk_token_id not in ids
    assert tokenizer.unk_token_id not in tokenizer(" ".join(LETTERS))["input_ids"]


def test_chat_template_has_the_picture_before_the_question() -> None:
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "where ?"}]}
    text = make_tokenizer().apply_chat_template(
        [message], add_generation_prompt=True, tokenize=False
    )
    assert text == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>where ?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


# -- packing


@pytest.fixture(scope="module")
def small() -> Qwen2VLForConditionalGeneration:
    torch.manual_seed(0)
    return make_model(2).eval()


def three_questions() -> tuple[Image.Image, list[Question]]:
    scene, image, rng = draw("test", 0, (3, 6))
    asked = [ask(scene, task, rng) for task in ("localisation", "text", "existence")]
    return image, [question for question in asked if question]


@torch.no_grad()
def plain_logits(
    model: Qwen2VLForConditionalGeneration, image: Image.Image, questions: list[Question]
) -> torch.Tensor:
    """What stock transformers gives at the answers' places, one prompt per question."""
    reader = scoring.Reader(model, make_tokenizer(), make_image_processor())
    found = []
    for question in questions:
        inputs = reader.inputs([image], [question.text])
        asked = inputs["input_ids"].shape[1]
        answer = reader.tokenizer(question.answer, return_tensors="pt")["input_ids"]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == model.config.image_token_id).int()
        found.append(model(**inputs).logits[0, asked - 1 :])
    return torch.cat(found)


@torch.no_grad()
def test_packed_logits_are_the_plain_ones(small: Qwen2VLForConditionalGeneration) -> None:
    image, questions = three_questions()
    packer = Packer(make_tokenizer())
    packed = packer.pack([[packer.segment(q.text, q.answer, chat=True) for q in questions]])
    visual = tower(small)(**pixel_inputs([image])).pooler_output
    logits, _ = packed_logits(small, packed, visual)
    plain = plain_logits(small, image, questions)
    torch.testing.assert_close(logits, plain, atol=1e-5, rtol=0)

    def changed(**fields: torch.Tensor) -> torch.Tensor:
        other: Packed = dataclasses.replace(packed, **fields)
        return packed_logits(small, other, visual)[0]

    one_segment = packed.segment.clamp(max=1)
    running_on = torch.arange(packed.ids.shape[1]).expand_as(packed.positions)
    for wrong in (changed(segment=one_segment), changed(positions=running_on)):
        assert (wrong - plain).abs().max() > 1e-2


def test_labels_are_the_answers_and_nothing_else() -> None:
    _, questions = three_questions()
    tokenizer = make_tokenizer()
    packer = Packer(tokenizer)
    packed = packer.pack([[packer.segment(q.text, q.answer, chat=True) for q in questions]])
    labels = packed.labels[packed.labels != IGNORE].tolist()
    assert labels == [i for q in questions for i in tokenizer(f"{q.answer}<|im_end|>")["input_ids"]]


def test_a_batch_is_the_same_every_time() -> None:
    packer = Packer(make_tokenizer())
    first, second, other = (make_batch(packer, "test", step, (3, 6), 0.5) for step in (4, 4, 5))
    assert torch.equal(first.packed.ids, second.packed.ids)
    assert torch.equal(first.pixels["hidden_states"], second.pixels["hidden_states"])
    assert first.packed.ids.tolist() != other.packed.ids.tolist()
    assert len(first.tasks) == (first.packed.labels != IGNORE).sum()
    assert END in first.tasks


def test_pixels_are_the_image_processors() -> None:
    images = [draw("test", index, (3, 6))[1] for index in range(3)]
    ours, theirs = pixel_inputs(images), make_image_processor()(images, return_tensors="pt")
    torch.testing.assert_close(ours["hidden_states"], theirs["pixel_values"], atol=1e-6, rtol=0)
    assert torch.equal(ours["grid_thw"], theirs["image_grid_thw"])


# -- the recipe's parts


@torch.no_grad()
@pytest.mark.parametrize("layers", [4, 6])
def test_a_grown_model_gives_the_same_logits(
    small: Qwen2VLForConditionalGeneration, layers: int
) -> None:
    image, questions = three_questions()
    grown = grow(small, layers).eval()
    assert len(decoder(grown).layers) == layers
    assert torch.equal(plain_logits(grown, image, questions), plain_logits(small, image, questions))
    with torch.no_grad():
        decoder(grown).layers[0].mlp.down_proj.weight += 0.1
    assert not torch.equal(
        plain_logits(grown, image, questions), plain_logits(small, image, questions)
    )


def test_only_a_multiple_of_the_depth_can_be_grown(small: Qwen2VLForConditionalGeneration) -> None:
    with pytest.raises(ValueError, match="no multiple"):
        grow(small, 5)


def test_token_labels_mark_the_tokens_of_things() -> None:
    scene, _, _ = draw("test", 0, (1, 1))
    labels = token_labels(scene)
    inside = labels[:, 0] != OUTSIDE
    (thing,) = scene.things
    x0, y0, x1, y1 = thing.box
    cells = (x1 - x0) * (y1 - y0)
    assert cells / 4 - (x1 - x0) <= inside.sum() <= cells / 4 + (x1 - x0)
    assert (labels[inside, 3:] == torch.tensor(thing.box)).all()


def test_the_curriculum_climbs_and_is_resumed() -> None:
    curriculum = Curriculum(STAGES[0])
    assert curriculum.counts() == (1, 3)
    for _ in range(Curriculum.WINDOW):
        curriculum.note({"text": 1.0, "attribute": 0.9})
    again = Curriculum(STAGES[0])
    again.load_state_dict(curriculum.state_dict())
    assert again.counts() == curriculum.counts() == (2, 4)
    assert again.short(0) == pytest.approx(STAGES[0].short - 0.1)
    for _ in range(10 * Curriculum.WINDOW):
        again.note({"text": 1.0, "attribute": 1.0})
    assert again.counts() == (3, 6)


class Total:
    """A part of a checkpoint that counts."""

    def __init__(self) -> None:
        self.value = 0

    def state_dict(self) -> int:
        return self.value

    def load_state_dict(self, state: int) -> None:
        self.value = state


def test_a_killed_stage_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    def run(total: Total, until: int | None = None) -> list[int]:
        seen: list[int] = []

        def step(index: int) -> dict[str, float]:
            if index == until:
                raise KeyboardInterrupt
            seen.append(index)
            total.value += index
            return {"value": total.value}

        run_stage("stage", tmp_path, 250, {"total": total}, step)
        return seen

    with pytest.raises(KeyboardInterrupt):
        run(Total(), until=130)
    resumed = Total()
    assert run(resumed) == list(range(100, 250))
    assert resumed.value == sum(range(250))
    assert run(Total()) == []


# -- what ships


def test_export_rounds_a_copy_and_loads_again(
    small: Qwen2VLForConditionalGeneration, tmp_path: Path
) -> None:
    before = {name: weight.clone() for name, weight in small.state_dict().items()}
    export(small, tmp_path)
    assert all(torch.equal(before[name], weight) for name, weight in small.state_dict().items())
    again = Qwen2VLForConditionalGeneration.from_pretrained(tmp_path)
    assert again.dtype == torch.bfloat16
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, before[name].to(torch.bfloat16))


def test_shipped_directory_is_small_and_complete() -> None:
    files = {path.name: path.stat().st_size for path in SHIPPED.iterdir()}
    assert sum(files.values()) <= 16 * 2**20
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "preprocessor_config.json",
    } <= set(files)
    config = json.loads((SHIPPED / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["Qwen2VLForConditionalGeneration"]
    assert config["text_config"]["num_hidden_layers"] == 24


def test_shipped_tokenizer_and_processor_are_the_recipes() -> None:
    ours, theirs = make_tokenizer(), AutoTokenizer.from_pretrained(SHIPPED)
    assert theirs.get_vocab() == ours.get_vocab()
    assert theirs.chat_template == ours.chat_template
    assert theirs.eos_token_id == ours.get_vocab()["<|im_end|>"]
    assert theirs.padding_side == "left"
    image = draw("test", 0, (3, 6))[1]
    pixels = AutoImageProcessor.from_pretrained(SHIPPED)(image, return_tensors="pt")
    assert torch.equal(pixels["image_grid_thw"], torch.tensor([[1, 12, 12]]))
    assert torch.equal(
        pixels["pixel_values"], make_image_processor()(image, return_tensors="pt")["pixel_values"]
    )


def test_shipped_layers_all_write_into_the_residual_stream() -> None:
    model = Qwen2VLForConditionalGeneration.from_pretrained(SHIPPED, dtype=torch.float32)
    for layer in decoder(model).layers:
        assert layer.self_attn.o_proj.weight.norm() > 0.5
        assert layer.mlp.down_proj.weight.norm() > 0.5


def test_shipped_model_answers_held_out_questions() -> None:
    rows = [json.loads(line) for line in HELD_OUT.read_text(encoding="utf-8").splitlines()][:60]
    found = scoring.score(scoring.Reader.load(SHIPPED), rows, HELD_OUT.parent)
    marks = [mark for task, ones in found.items() if task != "count" for mark in ones]
    assert sum(marks) / len(marks) > 0.9


@pytest.mark.parametrize(
    ("task", "given", "wanted", "expected"),
    [
        ("localisation", "(0,0),(500,500)", "(0,0),(500,500)", True),
        ("localisation", "(0,0),(500,240)", "(0,0),(500,500)", False),
        ("localisation", "(500,500),(0,0)", "(0,0),(500,500)", False),
        ("localisation", "red", "(0,0),(500,500)", False),
        ("text", "K", "K", True),
        ("text", "k", "K", False),
    ],
)
def test_marking(task: str, given: str, wanted: str, expected: bool) -> None:
    assert scoring.right(task, given, wanted) is expected
