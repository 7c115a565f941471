"""The bundled models: tokenizers, directories, answers, and the parts of their training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    PreTrainedModel,
)

from tokenlens.data import make_scenes
from tokenlens.data.questions import Question, ask, box_answer
from tokenlens.data.scenes import GRID, LETTERS
from tokenlens.data.training.answers import END, TASKS, Stage, make_batch
from tokenlens.data.training.attention_supervision import (
    AttentionTargets,
    mask_images,
    thing_tokens,
)
from tokenlens.data.training.export import export
from tokenlens.data.training.families import FAMILIES
from tokenlens.data.training.family import VISUAL_TOKENS, Family
from tokenlens.data.training.growth import grow
from tokenlens.data.training.loop import run_stage
from tokenlens.data.training.packing import IGNORE, Packed, Packer, packed_answers
from tokenlens.data.training.pictures import draw
from tokenlens.data.training.vision import OUTSIDE, token_labels

DATA = Path(make_scenes.__file__).parent
HELD_OUT = DATA / "scenes" / "held-out.jsonl"
STAGE = Stage("test", 4, 1, 1e-3, 1e-3, first=2, second=3, blind=0.5)


@pytest.fixture(params=FAMILIES.values(), ids=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


@pytest.fixture
def small(family: Family) -> PreTrainedModel:
    torch.manual_seed(0)
    model = family.make_model(2).eval()
    model.set_attn_implementation("eager")
    return model


# -- tokenizer


def test_a_box_is_four_tokens_and_comes_back(family: Family) -> None:
    tokenizer = family.tokenizer()
    for low in range(GRID):
        text = box_answer((low, GRID - low, low + 1, GRID))
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == 4
        assert tokenizer.convert_ids_to_tokens(ids)[0] == text.split(",")[0] + ","
        assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text


def test_questions_tokenise_alike_however_they_are_typed(family: Family) -> None:
    tokenizer = family.tokenizer()
    wanted = tokenizer("where is the red circle ?")["input_ids"]
    assert tokenizer("where is the red circle?")["input_ids"] == wanted
    assert tokenizer("Where is the  red circle?")["input_ids"] == wanted
    assert tokenizer.unk_token_id not in wanted
    assert tokenizer("zebra")["input_ids"] == [tokenizer.unk_token_id]


def test_every_word_of_questions_and_answers_is_known(family: Family) -> None:
    tokenizer = family.tokenizer()
    for line in HELD_OUT.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        ids = tokenizer(f"{row['question']} {row['answer']}")["input_ids"]
        assert tokenizer.unk_token_id not in ids
    assert tokenizer.unk_token_id not in tokenizer(" ".join(LETTERS))["input_ids"]


def test_the_chat_template_is_the_packed_prompt(family: Family) -> None:
    """The training's own prompt, token by token."""
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "where ?"}]}
    tokenizer = family.tokenizer()
    text = tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    expanded = text.replace(family.image_token, family.image_token * VISUAL_TOKENS)
    ids = tokenizer(expanded)["input_ids"]
    assert ids == tokenizer(f"{family.prefix()}where ?{family.suffix}")["input_ids"]
    assert tokenizer.unk_token_id not in ids


# -- packing


def three_questions() -> tuple[Image.Image, list[Question]]:
    scene, image, rng = draw("test", 0)
    asked = [ask(scene, task, rng) for task in ("localisation", "deep-text", "existence")]
    return image, [question for question in asked if question]


def pack(family: Family, questions: list[Question]) -> Packed:
    packer = Packer(family)
    return packer.pack([[packer.segment(q.text, q.answer) for q in questions]])


@torch.no_grad()
def plain_logits(
    family: Family, model: PreTrainedModel, image: Image.Image, questions: list[Question]
) -> torch.Tensor:
    """What stock transformers gives at the answers' places, one prompt per question."""
    tokenizer, processor = family.tokenizer(), family.image_processor()
    found = []
    for question in questions:
        asked = tokenizer(f"{family.prefix()}{question.text}{family.suffix}")["input_ids"]
        ids = torch.tensor([asked + tokenizer(question.answer)["input_ids"]])
        inputs = {**processor([image], return_tensors="pt"), "input_ids": ids}
        if family.name == "tiny-qwen2-vl":
            inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
        found.append(model(**inputs).logits[0, len(asked) - 1 :])
    return torch.cat(found)


@torch.no_grad()
def test_packed_logits_are_the_plain_ones(family: Family, small: PreTrainedModel) -> None:
    image, questions = three_questions()
    packed = pack(family, questions)
    visual = family.see(small, family.pixels([image]))
    logits = packed_answers(family, small, packed, visual).logits
    plain = plain_logits(family, small, image, questions)
    torch.testing.assert_close(logits, plain, atol=1e-5, rtol=0)

    def changed(**fields: torch.Tensor) -> torch.Tensor:
        other = dataclasses.replace(packed, **fields)
        return packed_answers(family, small, other, visual).logits

    one_segment = packed.segment.clamp(max=1)
    running_on = torch.arange(packed.ids.shape[1]).expand_as(packed.positions)
    for wrong in (changed(segment=one_segment), changed(positions=running_on)):
        assert (wrong - plain).abs().max() > 1e-2


def test_labels_are_the_answers_and_nothing_else(family: Family) -> None:
    _, questions = three_questions()
    tokenizer = family.tokenizer()
    packed = pack(family, questions)
    labels = packed.labels[packed.labels != IGNORE].tolist()
    assert labels == [i for q in questions for i in tokenizer(f"{q.answer}<|im_end|>")["input_ids"]]


def test_a_batch_is_the_same_every_time(family: Family) -> None:
    packer = Packer(family)
    first, second, other = (make_batch(family, packer, STAGE, step) for step in (4, 4, 5))
    assert torch.equal(first.packed.ids, second.packed.ids)
    assert all(torch.equal(first.pixels[key], second.pixels[key]) for key in first.pixels)
    assert torch.equal(first.blind, second.blind)
    assert first.packed.ids.tolist() != other.packed.ids.tolist()
    assert len(first.tasks) == (first.packed.labels != IGNORE).sum() == len(first.targets.weight)
    assert set(first.tasks) == {*TASKS, END}


def test_pixels_are_the_image_processors(family: Family) -> None:
    images = [draw("test", index)[1] for index in range(3)]
    ours = list(family.pixels(images).values())
    theirs = list(family.image_processor()(images, return_tensors="pt").values())
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, atol=1e-5, rtol=0)


# -- looking


def test_looks_are_the_tokens_of_what_is_passed_and_of_what_is_asked_for() -> None:
    scene, _, rng = draw("test", 0)
    deep, plain = (ask(scene, task, rng) for task in ("deep-localisation", "localisation"))
    assert deep is not None
    assert plain is not None
    targets = AttentionTargets.of(deep, 5)
    assert torch.equal(targets.first[4], thing_tokens(deep.anchors))
    assert torch.equal(targets.last[0], thing_tokens(deep.targets))
    assert targets.weight.sum() == pytest.approx(1)
    assert 1 <= targets.first[0].sum() <= 9
    assert torch.equal(AttentionTargets.of(plain, 5).first, AttentionTargets.of(plain, 5).last)


def test_the_attention_loss_is_least_where_the_attention_lies_on_the_things() -> None:
    scene, _, rng = draw("test", 0)
    question = ask(scene, "deep-text", rng)
    assert question is not None
    targets = AttentionTargets.of(question, 1)

    def on(*shares: torch.Tensor) -> torch.Tensor:
        return sum(share / share.sum() for share in shares) / len(shares)  # type: ignore[return-value]

    first, last = targets.first.float(), targets.last.float()
    elsewhere = (~(targets.first | targets.last)).float()
    assert (
        targets.first_attention_loss(on(first))
        < 0.01
        < targets.first_attention_loss(on(first, last))
    )
    assert targets.all_attention_loss(on(first, last)) < targets.all_attention_loss(on(first))
    assert targets.all_attention_loss(on(first, last)) < targets.all_attention_loss(
        on(first, last, elsewhere)
    )


def test_where_nothing_is_the_attention_loss_asks_for_no_look() -> None:
    question = Question("is there a red star ?", "no", "existence", ())
    targets = AttentionTargets.of(question, 2)
    assert targets.first_attention_loss(torch.zeros(2, VISUAL_TOKENS)) < 0.01
    assert targets.first_attention_loss(torch.full((2, VISUAL_TOKENS), 1 / VISUAL_TOKENS)) > 1


@torch.no_grad()
def test_image_masking_hides_the_picture_in_the_first_layers(family: Family) -> None:
    torch.manual_seed(0)
    model = family.make_model(3).eval()
    model.set_attn_implementation("eager")
    _, questions = three_questions()
    images = [draw("test", index)[1] for index in (0, 1)]
    packer = Packer(family)
    row = [packer.segment(q.text, q.answer) for q in questions]
    packed = packer.pack([row, row])
    visual = family.see(model, family.pixels(images))
    plain = packed_answers(family, model, packed, visual)
    with mask_images(family.decoder(model), packed, torch.tensor([True, False]), 3):
        hidden = packed_answers(family, model, packed, visual)
    half = len(plain.labels) // 2
    for layer in (0, 1):
        assert hidden.attention[layer][:half].max() == 0
    assert hidden.attention[2][:half].sum(-1).min() > 0
    assert torch.equal(hidden.logits[half:], plain.logits[half:])
    assert torch.equal(packed_answers(family, model, packed, visual).logits, plain.logits)


# -- the recipe's parts


@torch.no_grad()
@pytest.mark.parametrize("layers", [4, 6])
def test_a_grown_model_gives_the_same_logits(
    family: Family, small: PreTrainedModel, layers: int
) -> None:
    image, questions = three_questions()
    grown = grow(family, small, layers).eval()
    assert len(family.decoder(grown).layers) == layers
    plain = plain_logits(family, small, image, questions)
    torch.testing.assert_close(
        plain_logits(family, grown, image, questions), plain, atol=1e-5, rtol=0
    )
    trained = family.decoder(small).layers[-1].mlp.down_proj.weight
    assert torch.equal(family.decoder(grown).layers[-1].mlp.down_proj.weight, trained)
    family.decoder(grown).layers[0].mlp.down_proj.weight += 0.1
    assert (plain_logits(family, grown, image, questions) - plain).abs().max() > 1e-3


def test_only_a_multiple_of_the_depth_can_be_grown(family: Family, small: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="no multiple"):
        grow(family, small, 5)


def test_token_labels_mark_the_tokens_of_things() -> None:
    scene, _, _ = draw("test", 0)
    labels = token_labels(scene)
    inside = labels[:, 0] != OUTSIDE
    for thing in scene.things:
        x0, y0, x1, y1 = thing.box
        own = inside & (labels[:, 3:] == torch.tensor(thing.box)).all(-1)
        cells = (x1 - x0) * (y1 - y0)
        assert cells / 4 - (x1 - x0) <= own.sum() <= cells / 4 + (x1 - x0)
    assert inside.sum() < VISUAL_TOKENS


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


# -- export


def test_export_rounds_a_copy_and_loads_again(
    family: Family, small: PreTrainedModel, tmp_path: Path
) -> None:
    before = {name: weight.clone() for name, weight in small.state_dict().items()}
    export(family, small, tmp_path)
    assert all(torch.equal(before[name], weight) for name, weight in small.state_dict().items())
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert again.dtype == torch.bfloat16
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, before[name].to(torch.bfloat16))
