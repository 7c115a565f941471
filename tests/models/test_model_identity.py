"""Stored answers know what answered: every way in which a model can change is seen."""

import sys
from importlib import resources
from pathlib import Path

import pytest
import torch

import tokenlens as tl
from tests.support.builders import counted_samples, save_model_directory, tiny_qwen2_vl
from tokenlens.errors import OutputError
from tokenlens.evaluation.running.cache_key import EXEMPT, deciding_files
from tokenlens.models.fingerprint import model_identity
from tokenlens.probing.profiling import profile_samples
from tokenlens.schedule import Schedule


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(4))


@pytest.fixture
def vlm(folder):
    return tl.load(str(folder), device="cpu")


def one_value(vlm):
    vlm.model.lm_head.weight.data.view(-1)[12345 % vlm.model.lm_head.weight.numel()] += 1e-3


def past_the_counter(vlm):
    vlm.model.lm_head.weight.detach().numpy()[3, 3] += 1e-3  # no version counter sees it


def buffer(vlm):
    _, found = next(iter(vlm.model.named_buffers()))
    found.mul_(1.5)


def adapter(vlm):
    vlm.model.lm_head._disable_adapters = True  # what PEFT's layers hold


def scaling(vlm):
    vlm.model.lm_head.scaling = {"default": 2.0}


CHANGES = {
    "one value": (one_value, "weights"),
    "past the version counter": (past_the_counter, "weights"),
    "a buffer": (buffer, "modules"),
    "adapters off": (adapter, "modules"),
    "an adapter's weight": (scaling, "modules"),
    "attention": (lambda vlm: vlm.model.set_attn_implementation("eager"), "attention"),
    "dtype": (lambda vlm: vlm.model.to(torch.float64), "dtype"),
    "template": (lambda vlm: setattr(vlm.processor, "chat_template", "{{ 1 }}"), "processor"),
    "pictures": (
        lambda vlm: setattr(vlm.processor.image_processor, "do_rescale", False),
        "processor",
    ),
    "end": (lambda vlm: setattr(vlm.model.generation_config, "eos_token_id", 7), "generation"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_seen(vlm, name):
    change, key = CHANGES[name]
    before = model_identity(vlm)
    assert model_identity(vlm) == before
    change(vlm)
    assert model_identity(vlm)[key] != before[key]


def test_a_call_changes_nothing(vlm):
    before = model_identity(vlm)
    tl.evaluate(vlm, counted_samples(2), max_new_tokens=2)
    assert model_identity(vlm) == before


def test_weights_are_the_same_in_every_type_that_holds_them(tmp_path):
    folder = save_model_directory(tmp_path, tiny_qwen2_vl(dtype=torch.bfloat16))
    hashes = {tl.load(str(folder), dtype=name).weights_hash for name in ("bf16", "fp32", "fp64")}
    assert len(hashes) == 1


def test_a_finished_run_is_not_given_for_changed_weights(vlm, tmp_path):
    samples = counted_samples(2)
    tl.evaluate(vlm, samples, max_new_tokens=2, out=tmp_path / "run")
    tl.evaluate(vlm, samples, max_new_tokens=2, out=tmp_path / "run")
    one_value(vlm)
    with pytest.raises(OutputError, match=r"model\.(weights|config_hash) is"):
        tl.evaluate(vlm, samples, max_new_tokens=2, out=tmp_path / "run")


def test_a_finished_run_is_not_given_for_changed_pictures(vlm, tmp_path):
    samples = counted_samples(2)
    tl.evaluate(vlm, samples, max_new_tokens=2, out=tmp_path / "run")
    samples[0].image.putpixel((0, 0), (1, 2, 3))
    with pytest.raises(OutputError, match=r"data\.pictures is"):
        tl.evaluate(vlm, samples, max_new_tokens=2, out=tmp_path / "run")


def test_an_offloaded_model_has_an_identity_and_runs(folder, vlm, tmp_path):
    away = tl.load(str(folder), device_map={"": "disk"})
    assert model_identity(away) == model_identity(vlm)
    samples = counted_samples(2)
    mine, theirs = (tl.evaluate(one, samples, max_new_tokens=2).rows for one in (vlm, away))
    assert mine["prediction"].tolist() == theirs["prediction"].tolist()


def test_all_code_that_answers_is_hashed_or_exempt():
    """Every function of tokenlens that runs while answers are made, pruned in every way."""
    root = Path(str(resources.files("tokenlens")))
    hashed = {str(root / name) for name in deciding_files(root)}
    vlm = tl.load("tiny-qwen2-vl", device="cpu")
    ran: set[str] = set()

    def watch(frame, event, _):
        if event == "call" and "/tokenlens/" in frame.f_code.co_filename:
            ran.add(frame.f_code.co_filename)

    samples = tl.load_samples("scenes", limit=2)
    schedules = [
        Schedule.preset(name, vlm, budget="50%")
        for name in ("swiftvlm", "fastv", "visionzip", "divprune", "downsample")
    ]
    sys.setprofile(watch)
    try:
        for schedule in (None, *schedules):
            tl.evaluate(vlm, samples, schedule, max_new_tokens=1)
    finally:
        sys.setprofile(None)
    beside = {Path(name).relative_to(root) for name in ran - hashed}
    assert not {path for path in beside if not EXEMPT.keys() & set(path.parts)}
    assert {"run.py", "shared_features.py", "generation.py"} <= {Path(name).name for name in hashed}
    assert "pruning" not in EXEMPT
    assert all(reason for reason in EXEMPT.values())


def test_exempt_packages_exist():
    root = Path(str(resources.files("tokenlens")))
    top = root.parent
    for name in EXEMPT:
        assert (top / name).is_dir() or list(root.rglob(name)), name


def test_a_profile_does_not_go_on_with_other_weights(vlm, folder, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    lines = []
    for index, sample in enumerate(counted_samples(4)):
        sample.image.save(data / f"{index}.png")
        lines.append(
            f'{{"id": "{index}", "image": "{index}.png", "question": "where ?", "answer": "1"}}'
        )
    (data / "manifest.jsonl").write_text("\n".join(lines))
    samples = tl.load_samples(data)
    profile_samples(vlm, samples, tmp_path / "run")
    one_value(vlm)
    with pytest.raises(OutputError, match=r"model\.(weights|config_hash) is"):
        profile_samples(vlm, samples, tmp_path / "run")
