"""The training of `smol-llava`, on a small random base: tokens, questions, adapters, the whole."""

import random
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import tokenlens as tl
from tests.support.small_smol import LAYERS, small_base, small_family
from tokenlens.data.questions import KINDS
from tokenlens.data.scenes import GRID, SIGNS, make_scene
from tokenlens.data.training.packing import IGNORE, Packer
from tokenlens.data.training.smol import projector
from tokenlens.data.training.smol.__main__ import train
from tokenlens.data.training.smol.answers import (
    answer_logits,
    answer_of,
    box_letters,
    make_batch,
    mean_over_questions,
    shares_right,
)
from tokenlens.data.training.smol.codes import TokenCodes, inside, size_of
from tokenlens.data.training.smol.curriculum import COUNTS, FIRST, LAST, Curriculum, ask_kind
from tokenlens.data.training.smol.family import SmolLlava, plain
from tokenlens.data.training.smol.lora import adapters_of, add_adapters
from tokenlens.data.training.vision import token_labels
from tokenlens.evaluation.metrics.boxes import parse_grid_lines
from tokenlens.models.composing.compose import compose


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def family(base: Path, tmp_path_factory: pytest.TempPathFactory) -> SmolLlava:
    return small_family(base, tmp_path_factory.mktemp("family") / "words")


def test_a_box_in_letters_comes_back() -> None:
    for line in range(GRID):
        box = (line, GRID - line - 1, line + 1, GRID - line)
        assert parse_grid_lines(box_letters(box)) == tuple(value / GRID for value in box)
    with pytest.raises(ValueError, match="grid lines"):
        box_letters((0, 0, GRID + 1, 3))


def test_perfect_tokens_say_what_they_show(family: SmolLlava) -> None:
    torch.manual_seed(0)
    codes = TokenCodes.of(0.1 * torch.randn(300, 1024), family.tokenizer())
    labels = token_labels(make_scene(random.Random(1)))
    tokens = codes.tokens(labels)
    things = inside(labels)
    assert 0 < things.sum() < len(labels)
    wanted = labels[things]
    read = {name: scores.argmax(-1) for name, scores in codes.read(tokens[things]).items()}
    assert torch.equal(read["size"], size_of(wanted))
    same = [i for i, row in enumerate(labels[things]) if torch.equal(row, wanted[0])]
    assert torch.equal(tokens[things][same[0]], tokens[things][same[-1]])
    empty = tokens[~things]
    assert len(empty.unique(dim=0)) == len(empty)


def test_a_question_of_the_step_between_names_the_colour_of_the_sign() -> None:
    scene = make_scene(random.Random(2))
    question = ask_kind(scene, "sign", random.Random(3))
    assert question is not None
    assert question.answer == SIGNS[question.targets[0].letter]
    assert "sign" not in KINDS
    assert plain(question.text).startswith("What colour does the ")


def test_scenes_grow_and_kinds_follow() -> None:
    curriculum = Curriculum()
    curriculum.move(20, {"text": 0.9, "attribute": 0.8})
    assert curriculum.level == 0
    for step in range(len(COUNTS)):
        assert curriculum.kinds(step) is FIRST
        curriculum.move(step, {"text": 0.9, "attribute": 0.9})
    assert curriculum.level == len(COUNTS) - 1
    assert curriculum.full_since == len(COUNTS) - 1
    assert curriculum.kinds(10_000) is LAST
    again = Curriculum()
    again.load_state_dict(curriculum.state_dict())
    assert again == curriculum


@torch.no_grad()
def test_packed_answers_are_those_of_the_plain_model(family: SmolLlava, base: Path) -> None:
    torch.manual_seed(1)
    model = family.assemble(LlamaConfig.from_pretrained(base)).eval()
    curriculum = Curriculum(level=len(COUNTS) - 1, full_since=0)
    packer = Packer(family)
    batch = make_batch(family, packer, curriculum, 500, pictures=1, questions=3)
    visual = family.see(model, {"pixel_values": batch.pixels}).view(1, 144, -1)
    logits, asked = answer_logits(model, batch.packed, visual)
    labels = batch.packed.labels[batch.packed.labels != IGNORE]
    segments = batch.packed.segment[0]
    for number in range(len(batch.tasks)):
        own = (segments == 0) | (segments == number + 1)
        out = model(input_ids=batch.packed.ids[:, own], pixel_values=batch.pixels)
        found = out.logits[0, batch.packed.labels[0, own] != IGNORE]
        torch.testing.assert_close(logits[asked == number], found, atol=1e-4, rtol=0)
    assert mean_over_questions(logits, labels, asked) > 0
    perfect = torch.nn.functional.one_hot(labels, logits.shape[1]).float()
    assert set(shares_right(perfect, labels, asked, batch.tasks).values()) == {1.0}
    assert set(shares_right(-perfect, labels, asked, batch.tasks).values()) == {0.0}


def test_labels_are_the_answers(family: SmolLlava) -> None:
    scene = make_scene(random.Random(5))
    question = ask_kind(scene, "localisation", random.Random(6))
    assert question is not None
    assert parse_grid_lines(answer_of(question)) is not None
    ids, labels = Packer(family).segment(plain(question.text), answer_of(question))
    assert len(ids) == len(labels)
    answered = [label for label in labels if label != IGNORE]
    assert family.tokenizer().decode(answered) == answer_of(question) + "<|im_end|>"


def test_adapters_start_at_nothing_and_alone_are_trained(base: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(base).bfloat16()
    ids = torch.arange(10, 20)[None]
    before = model(ids).logits
    add_adapters(model.model, LAYERS)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(ids).logits, before)
    assert len(adapters_of(model.model)) == 2 * 7 * LAYERS


@pytest.mark.slow
def test_the_recipe_runs_goes_on_and_its_parts_make_a_model(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "FIT_ON", 32)
    for _ in range(2):
        train(base, tmp_path / "run", torch.device("cpu"), pace=0.002)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.count("smol-vision 2/2") == log.count("smol-answers 4/4") == 1
    folder = tmp_path / "model"
    folder.mkdir()
    compose(base, tmp_path / "run" / "smol-llava", folder)
    assert tl.load(folder).layers == LAYERS
