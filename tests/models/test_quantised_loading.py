"""Models loaded quantised, adapted or from the disk: what is refused, and what identifies them."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import tokenlens as tl
from tests.support.builders import counted_samples, save_model_directory, tiny_qwen2_vl
from tests.support.engine_support import schedule, stage
from tests.support.quantised import each, installed
from tokenlens.errors import ModelError, OutputError
from tokenlens.models import quantisation
from tokenlens.models.fingerprint import model_identity
from tokenlens.models.preflight import check_model
from tokenlens.models.quantisation import QUANTISATIONS, check_quantisation

LAYERS = 4
PRUNED = schedule(stage(1, "after", 0.5, "bypass", merge=0.2), stage(3, "before", 4), layers=LAYERS)
needs_peft = pytest.mark.skipif(not installed("peft"), reason="needs PEFT")
INT8 = ("torchao-int8", "torchao-int8-dynamic", "quanto-int8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(LAYERS))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return saved_adapter(tmp_path_factory.mktemp("adapter"))


def saved_adapter(place: Path, seed: int = 0, **settings: object) -> Path:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        **{"r": 4, "target_modules": ["q_proj", "v_proj", "up_proj"], "init_lora_weights": False}
        | settings
    )
    get_peft_model(tiny_qwen2_vl(LAYERS), config).save_pretrained(place)
    return place


def logits(vlm):
    sample = counted_samples(1)[0]
    with torch.no_grad():
        return vlm.model(**vlm.prepare(sample.image, sample.question)).logits


def refused(folder, *words, **how):
    with pytest.raises(ModelError) as caught:
        tl.load(str(folder), **how)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) <= 500
    for word in words:
        assert word in message


@each(*INT8)
def test_linear_layers_are_quantised_and_the_head_is_not(folder, quantize):
    vlm = tl.load(str(folder), device="cpu", quantize=quantize)
    assert vlm.quantize == quantize
    assert vlm.dtype == torch.float32
    layer = vlm.model.get_decoder().layers[0].mlp.up_proj
    assert type(layer.weight) is not nn.Parameter
    assert type(vlm.model.lm_head.weight) is nn.Parameter
    apart = (logits(vlm) - logits(tl.load(str(folder), device="cpu"))).abs().max()
    assert 0 < apart < 2


@each(*INT8)
def test_answers_of_the_whole_model_are_not_given_for_the_quantised_one(folder, quantize, tmp_path):
    samples = counted_samples(2)
    whole = tl.load(str(folder), device="cpu")
    other = tl.load(str(folder), device="cpu", quantize=quantize)
    mine, theirs = model_identity(whole), model_identity(other)
    assert "quantize" not in mine
    assert "packages" not in mine
    assert theirs["quantize"] == quantize
    assert theirs["packages"].keys() == {QUANTISATIONS[quantize].package}
    for key in ("config_hash", "weights"):
        assert mine[key] != theirs[key]
    tl.evaluate(whole, samples, max_new_tokens=2, out=tmp_path / "run")
    with pytest.raises(OutputError, match=r"model\.\w+ is"):
        tl.evaluate(other, samples, max_new_tokens=2, out=tmp_path / "run")
    assert answered(other, samples, tmp_path) == 0
    assert answered(whole, samples, tmp_path) == 0
    fill(whole, samples, tmp_path)
    assert answered(whole, samples, tmp_path) == 2
    assert answered(other, samples, tmp_path) == 0


@each(*INT8, "quanto-int4")
def test_every_way_answers_pruned_and_unpruned(folder, quantize):
    """Generation runs in torch's inference mode, which quanto's 4-bit tensors cannot be made in."""
    vlm = tl.load(str(folder), device="cpu", quantize=quantize)
    for one in (None, PRUNED):
        found = tl.evaluate(vlm, counted_samples(2), one, max_new_tokens=2)
        assert found.rows["prediction"].notna().all()
    with torch.inference_mode():
        inside = logits(vlm)
    torch.testing.assert_close(inside, logits(vlm), atol=0, rtol=0)


def run_of(vlm, samples):
    from tokenlens.evaluation.running.options import RunOptions
    from tokenlens.evaluation.running.run import Run

    return Run(vlm, samples, RunOptions(batch_size=2, max_new_tokens=2))


def answered(vlm, samples, folder):
    """How many answers a run of this model finds in the shared cache."""
    return run_of(vlm, samples).answered({folder / "none": None}, folder / "answers")


def fill(vlm, samples, folder):
    run_of(vlm, samples).into({folder / "filled": None}, folder / "answers")


@each("torchao-int8", "torchao-int8-dynamic")
def test_roads_with_the_same_weights_are_told_apart_without_a_configuration(folder, quantize):
    """torchao's two hold the same integers; one of a caller's own names neither."""
    from torchao.quantization import (
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
        quantize_,
    )

    made = []
    for how in (Int8WeightOnlyConfig(), Int8DynamicActivationInt8WeightConfig()):
        vlm = tl.load(str(folder), device="cpu")
        quantize_(vlm.model.get_decoder(), how)
        made.append(model_identity(vlm))
    assert made[0]["weights"] == made[1]["weights"]
    assert made[0]["config_hash"] == made[1]["config_hash"]
    assert made[0]["modules"] != made[1]["modules"]


def scale_of(weight):
    return next(getattr(weight, name) for name in ("scale", "_scale") if hasattr(weight, name))


@each("torchao-int8", "quanto-int8")
def test_a_changed_scale_is_another_model(folder, quantize):
    vlm = tl.load(str(folder), device="cpu", quantize=quantize)
    before = model_identity(vlm)
    weight = vlm.model.get_decoder().layers[1].mlp.up_proj.weight
    with torch.no_grad():
        scale_of(weight).mul_(2)
    after = model_identity(vlm)
    assert after["weights"] != before["weights"]


@each("torchao-int8", "quanto-int8")
def test_a_scale_that_is_no_number_is_refused(folder, quantize, tmp_path):
    from tokenlens.models.finite import check_finite

    vlm = tl.load(str(folder), device="cpu", quantize=quantize)
    check_finite(vlm.model, folder)
    with torch.no_grad():
        scale_of(vlm.model.get_decoder().layers[1].mlp.up_proj.weight).fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        check_finite(vlm.model, folder)


@pytest.mark.parametrize("name", QUANTISATIONS)
def test_a_missing_or_old_package_is_named(folder, name, monkeypatch):
    def missing(package):
        raise quantisation.PackageNotFoundError(package)

    found = QUANTISATIONS[name]
    monkeypatch.setattr(quantisation, "version", missing)
    refused(folder, name, found.package, f'pip install "tokenlens[{found.extra}]"', quantize=name)
    monkeypatch.setattr(quantisation, "version", lambda _: "0.0.9")
    refused(folder, name, "found 0.0.9", quantize=name)
    with pytest.raises(ModelError, match=r"found 0\.0\.9"):
        check_model(folder, quantize=name)


def test_what_does_not_go_together_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(quantisation, "version", lambda _: "9.9")
    refused(folder, "'torchao-int8'", "did you mean", quantize="torchao-int")
    refused(folder, "float64", quantize="torchao-int8", dtype="float64")
    refused(folder, "the disk", quantize="quanto-int8", device_map="disk")
    refused(folder, "the disk", quantize="quanto-int8", device_map={"model.visual": "disk"})
    refused(folder, "CUDA", "torchao-int8", quantize="bitsandbytes-int8", device="cpu")
    quantised = tmp_path / "quantised"
    shutil.copytree(folder, quantised)
    config = json.loads((quantised / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (quantised / "config.json").write_text(json.dumps(config))
    refused(quantised, "already", "'gptq'", quantize="quanto-int8")
    assert check_quantisation(None, dtype="float64") is None


@pytest.mark.skipif(not installed("optimum.quanto"), reason="needs optimum-quanto")
def test_a_build_that_was_killed_is_no_endless_wait(folder, tmp_path, monkeypatch):
    from tokenlens.models import quantising

    build = tmp_path / "library" / "extensions" / "cpp" / "build"
    build.mkdir(parents=True)
    monkeypatch.setattr(quantising, "files", lambda _: tmp_path)
    (build / "lock").touch()
    refused(folder, "lock", "delete", quantize="quanto-int4", device="cpu")
    (build / "lock").unlink()

    def no_compiler(*_):
        raise RuntimeError("c++: not found")

    monkeypatch.setattr(torch.ops.quanto, "unpack", no_compiler)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        refused(folder, "c++: not found", "quanto-int8", quantize="quanto-int4", device="cpu")
    assert any("once" in str(one.message) for one in told)


@needs_peft
def test_an_adapter_answers_as_when_merged(folder, adapter):
    from peft import PeftModel

    vlm = tl.load(str(folder), device="cpu", adapter=adapter)
    merged = PeftModel.from_pretrained(tiny_qwen2_vl(LAYERS), adapter).merge_and_unload().eval()
    plain = tl.load(str(folder), device="cpu")
    expected = logits(tl.VLM.wrap(merged, plain.processor))
    assert vlm.adapter == str(adapter.resolve())
    assert vlm.architecture == plain.architecture
    assert (logits(vlm) - expected).abs().max() < 1e-4
    assert (logits(vlm) - logits(plain)).abs().max() > 0.1
    with tl.prune(vlm, PRUNED) as trace:
        logits(vlm)
    assert trace.tokens_per_layer[0, -1] == 4


@needs_peft
def test_answers_with_an_adapter_are_its_own(folder, adapter, tmp_path):
    samples = counted_samples(2)
    plain = tl.load(str(folder), device="cpu")
    mine = tl.load(str(folder), device="cpu", adapter=adapter)
    other = tl.load(str(folder), device="cpu", adapter=saved_adapter(tmp_path / "other", seed=1))
    fill(plain, samples, tmp_path)
    assert [answered(one, samples, tmp_path) for one in (plain, mine, other)] == [2, 0, 0]
    fill(mine, samples, tmp_path / "mine")
    found = [answered(one, samples, tmp_path / "mine") for one in (plain, mine, other)]
    assert found == [0, 2, 0]
    mine.model.disable_adapters()
    assert answered(mine, samples, tmp_path / "mine") == 0


@needs_peft
@each(*INT8)
def test_an_adapter_on_a_quantised_model(folder, adapter, quantize):
    vlm = tl.load(str(folder), device="cpu", adapter=adapter, quantize=quantize)
    plain = tl.load(str(folder), device="cpu", quantize=quantize)
    assert (logits(vlm) - logits(plain)).abs().max() > 0.1
    whole = tl.load(str(folder), device="cpu", adapter=adapter)
    assert (logits(vlm) - logits(whole)).abs().max() < 2
    assert model_identity(vlm)["packages"].keys() == {"peft", QUANTISATIONS[quantize].package}


@needs_peft
def test_adapters_that_do_not_fit_are_refused(folder, adapter, tmp_path):
    refused(folder, "adapter_config.json", adapter=tmp_path)
    refused(folder, "memory", adapter=adapter, device_map="disk")
    lacking = tmp_path / "lacking"
    shutil.copytree(adapter, lacking)
    (lacking / "adapter_model.safetensors").unlink()
    refused(folder, "adapter_model.safetensors", adapter=lacking)
    deeper = tmp_path / "deeper"
    shutil.copytree(adapter, deeper)
    config = json.loads((deeper / "adapter_config.json").read_text())
    for name, value in (("r", 8), ("target_modules", ["q_proj"]), ("target_modules", ["nowhere"])):
        (deeper / "adapter_config.json").write_text(json.dumps({**config, name: value}))
        refused(folder, str(deeper), "made for this model", adapter=deeper)
    wider = {**config, "target_modules": [*config["target_modules"], "k_proj"]}
    (deeper / "adapter_config.json").write_text(json.dumps(wider))
    refused(folder, str(deeper), "k_proj", adapter=deeper)
    (deeper / "adapter_config.json").write_text("{")
    refused(folder, "adapter_config.json", adapter=deeper)


def test_a_missing_peft_is_named(folder, tmp_path, monkeypatch):
    def missing(package):
        raise quantisation.PackageNotFoundError(package)

    monkeypatch.setattr(quantisation, "version", missing)
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").touch()
    refused(folder, "peft", 'pip install "tokenlens[peft]"', adapter=tmp_path)
    with pytest.raises(ModelError, match="peft"):
        check_model(folder, adapter=tmp_path)


@pytest.mark.parametrize(
    "device_map",
    ["disk", {"model.visual": "disk", "model.language_model": "cpu", "lm_head": "disk"}],
)
def test_weights_on_the_disk_prune_and_probe_as_in_memory(folder, device_map):
    """A scored layer runs outside of its turn, and its weights come from the disk there too."""
    here, away = tl.load(str(folder), device="cpu"), tl.load(str(folder), device_map=device_map)
    assert model_identity(away)["weights"] == model_identity(here)["weights"]
    found = []
    for vlm in (here, away):
        with tl.probe(vlm) as recording:
            plain = logits(vlm)
        with tl.prune(vlm, PRUNED) as trace:
            pruned = logits(vlm)
        selected = [stage.selected[0].tolist() for stage in trace.stages]
        found.append((plain, pruned, recording.importance[0], selected))
    for mine, theirs in zip(found[0][:3], found[1][:3], strict=True):
        assert torch.equal(torch.as_tensor(mine), torch.as_tensor(theirs))
    assert found[0][3] == found[1][3]
