"""Loading by every kind of name, and one clear line where it cannot be."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2VLProcessor,
)

from tests.support.builders import save_model_directory, tiny_qwen2_5_vl, tiny_qwen2_vl
from tokenlens.errors import ModelError
from tokenlens.models import processing
from tokenlens.models.aliases import ALIASES
from tokenlens.models.loading import load
from tokenlens.models.placement import find_device, find_dtype
from tokenlens.models.processing import load_processor, without_video

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_directory(tmp_path_factory.mktemp("saved"), tiny_qwen2_vl(merge=2))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A model directory a test may spoil."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and a hub that cannot be reached. Returns the cache."""

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def refused(name: Any, *words: str, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load(name, **{"device": "cpu", **options})
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def test_a_local_directory_is_known_by_its_absolute_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    for name in (folder, str(folder), "model", "./model"):
        vlm = load(name, device="cpu")
        assert vlm.id == str(folder)
        assert vlm.revision is None
    assert not vlm.model.training


def test_the_bundled_model() -> None:
    vlm = load("tiny-qwen2-vl", device="cpu")
    assert (vlm.id, vlm.revision) == ("tiny-qwen2-vl", None)
    assert vlm.dtype == torch.float32
    (layout,) = vlm.layout(vlm.prepare(Image.new("RGB", (168, 168)), "where is the red circle ?"))
    assert len(layout.positions) >= 144


def test_qwen2_5_loads_by_the_same_road(tmp_path: Path) -> None:
    vlm = load(save_model_directory(tmp_path, tiny_qwen2_5_vl()), device="cpu")
    inputs = vlm.prepare(Image.new("RGB", (40, 30)), "what ?")
    assert vlm.architecture == "Qwen2_5_VLForConditionalGeneration"
    assert vlm.model(**inputs).logits.isfinite().all()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("qwen2vl", "'qwen2-vl'"),
        ("tiny-qwen", "'tiny-qwen2-vl'"),
        ("LLaVA-1.5-7B!", "'llava-1.5-7b'"),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(name: str, nearest: str) -> None:
    refused(name, f"unknown model '{name}'", "did you mean", nearest, "tiny-qwen2-vl")


def test_a_name_like_no_other_gets_no_guess() -> None:
    assert "did you mean" not in refused("xyzzy", "unknown model 'xyzzy'", "expected")
    assert "did you mean" not in refused("", "unknown model ''")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/model", "~/nowhere", "a/b/c", Path("x")])
def test_a_path_that_is_not_there(name: Any) -> None:
    refused(name, "does not exist", "tiny-qwen2-vl")


def test_only_hub_models_have_revisions(folder: Path) -> None:
    for name in (folder, "tiny-qwen2-vl"):
        refused(name, "has no revisions", "'v9'", revision="v9")


def test_a_file_is_no_directory(folder: Path) -> None:
    refused(folder / "config.json", "is a file")


@pytest.mark.parametrize("name", ["qwen2-vl", "nobody/nothing"])
def test_without_network_it_says_at_once_what_was_tried(no_network: Path, name: str) -> None:
    start = time.monotonic()
    hub_id = ALIASES.get(name, name)
    refused(name, hub_id, "cannot fetch", "cache", "local directory", "'tiny-qwen2-vl'")
    assert time.monotonic() - start < 5


def test_offline_mode_is_honoured(no_network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(no_network))
    refused("qwen2-vl", "Qwen/Qwen2-VL-2B-Instruct", "offline mode", "'tiny-qwen2-vl'")


def test_a_cached_hub_model_loads_without_network(saved: Path, no_network: Path) -> None:
    repository = no_network / "models--Qwen--Qwen2-VL-2B-Instruct"
    shutil.copytree(saved, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    vlm = load("qwen2-vl", device="cpu")
    assert (vlm.id, vlm.revision) == ("Qwen/Qwen2-VL-2B-Instruct", COMMIT)
    assert load("Qwen/Qwen2-VL-2B-Instruct", device="cpu", revision=COMMIT).revision == COMMIT
    refused("qwen2-vl", "cannot fetch", revision="other-branch")


def test_the_hubs_own_refusals(no_network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: type[Exception]) -> Callable[..., None]:
        def info(*_: Any, **__: Any) -> None:
            raise error.__new__(error)

        return info

    for error, words in (
        (RepositoryNotFoundError, ["no model Qwen/Qwen2-VL-2B", "Qwen2-VL-2B-Instruct"]),
        (GatedRepoError, ["gated", "hf auth login"]),
        (RevisionNotFoundError, ["no revision 'v9'"]),
    ):
        monkeypatch.setattr(HfApi, "model_info", raising(error))
        refused("Qwen/Qwen2-VL-2B", *words, revision="v9")


def test_a_directory_that_is_no_model(tmp_path: Path) -> None:
    refused(tmp_path, "no config.json")
    (tmp_path / "config.json").write_text("{")
    refused(tmp_path, "config.json")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    refused(tmp_path, "config.json", "no-such-model")


def test_a_text_model_is_no_vision_language_model(tmp_path: Path) -> None:
    config = Qwen2Config(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    refused(tmp_path, "'qwen2'", "no vision-language model")


def drop_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def truncate_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def another_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 48
    (folder / "config.json").write_text(json.dumps(config))


def more_layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 5
    config["text_config"].pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("spoil", [drop_weights, truncate_weights, another_width, more_layers])
def test_weights_that_are_missing_or_damaged(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder)
    refused(folder, "weights", str(folder))


@pytest.mark.parametrize("file", ["tokenizer.json", "preprocessor_config.json"])
def test_a_processor_that_is_missing_or_damaged(folder: Path, file: str) -> None:
    (folder / file).write_text("{")
    refused(folder, "no usable processor", str(folder))
    (folder / file).unlink()
    refused(folder, "no usable processor")


def test_a_chat_template_kept_with_the_tokenizer_is_found(folder: Path) -> None:
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
    inputs = load(folder, device="cpu").prepare(Image.new("RGB", (40, 30)), "what ?")
    assert inputs["input_ids"].shape[0] == 1


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (None, torch.float32),
        ("auto", torch.bfloat16),
        ("fp16", torch.float16),
        ("bf16", torch.bfloat16),
        ("torch.float32", torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_dtypes(tmp_path: Path, dtype: Any, expected: torch.dtype) -> None:
    folder = save_model_directory(tmp_path, tiny_qwen2_vl(dtype=torch.bfloat16))
    assert load(folder, device="cpu", dtype=dtype).dtype == expected


def test_wrong_words_for_device_and_dtype(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(saved, "unknown device 'gpu'", "cuda", device="gpu")
    refused(saved, "unknown dtype 'floaty'", "bfloat16", dtype="floaty")
    refused(saved, "unknown dtype 'torch.int8'", dtype=torch.int8)
    refused(saved, "exclude each other", device="cpu", device_map="auto")
    refused(
        saved, "unknown device_map 'atuo'", "did you mean 'auto'?", device=None, device_map="atuo"
    )
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    refused(saved, "'cuda' is not available", "this machine has cpu", device="cuda")
    assert find_device(None) == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    assert find_device(None).type == "cuda"
    assert find_dtype(None, find_device("cuda:0")) == "auto"
    refused(saved, "'cuda:3' is not available", "has 1", device="cuda:3")
    refused(saved, "'mps' is not available", "cpu and cuda", device="mps")


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}])
def test_device_map_through_accelerate(saved: Path, device_map: Any) -> None:
    vlm = load(saved, device_map=device_map)
    inputs = vlm.prepare(Image.new("RGB", (40, 30)), "what ?")
    plain = load(saved, device=str(vlm.device), dtype=vlm.dtype)
    with torch.no_grad():
        assert torch.equal(vlm.model(**inputs).logits, plain.model(**inputs).logits)


def test_with_and_without_video_the_tensors_are_the_same(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The full processor as torchvision allows it, against ours; its video half stands in."""

    class NoVideo:
        model_input_names: tuple[str, ...] = ()

    monkeypatch.setattr(
        Qwen2VLProcessor, "check_argument_for_proper_class", lambda *_: object, raising=True
    )
    template = (saved / "chat_template.jinja").read_text()
    parts = (
        AutoImageProcessor.from_pretrained(saved, backend="pil"),
        AutoTokenizer.from_pretrained(saved),
    )
    full = Qwen2VLProcessor(*parts, NoVideo(), chat_template=template)
    ours = load_processor(saved, load(saved, device="cpu").model.config)
    picture = Image.effect_noise((50, 37), 90).convert("RGB")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "what ?"}]
    conversation: list[Any] = [{"role": "user", "content": content}]
    made: list[Any] = [
        processor.apply_chat_template(
            conversation, add_generation_prompt=True, tokenize=True, return_dict=True,
            return_tensors="pt",
        )
        for processor in (full, ours)
    ]  # fmt: skip
    assert set(made[0]) == set(made[1])
    for key in made[0]:
        assert torch.equal(made[0][key], made[1][key]), key


def test_real_torchvision_gives_the_same_tensors(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchvision", reason="compares the two roads where torchvision is there")
    config = load(saved, device="cpu").model.config
    picture = Image.effect_noise((50, 37), 90).convert("RGB")
    made = []
    for available in (True, False):
        monkeypatch.setattr(processing, "is_torchvision_available", lambda here=available: here)
        processor = load_processor(saved, config)
        made.append(processor(images=picture, text="<|image_pad|> what ?", return_tensors="pt"))
    for key in made[0]:
        assert torch.equal(made[0][key], made[1][key]), key


def test_only_the_video_half_is_left_out() -> None:
    assert without_video(Qwen2VLProcessor).get_attributes() == ["image_processor", "tokenizer"]
    assert "video_processor" in Qwen2VLProcessor.get_attributes()
