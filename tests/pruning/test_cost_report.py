"""`tokenlens cost`: the published figures, our own count, and no weights anywhere."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import LlavaConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import tokenlens as tl
from tests.conftest import Ended
from tests.methods.test_budget_macs import STAGED
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tests.support.layout_families import IMAGE, llava
from tokenlens.models.loading import load_outline
from tokenlens.models.prompt_lengths import USUAL_QUESTION, USUAL_SIZE, PromptLengths
from tokenlens.pruning.cost.formulas import FORMULAS, published_macs
from tokenlens.pruning.cost.report import cost_report, prompt_for
from tokenlens.schedule import Schedule, Stage

Command = Callable[..., Ended]
PUBLISHED_TEXT = 69
"""Text tokens with which SwiftVLM's table comes out; it does not say how many it took."""


def seven_billion() -> LlavaConfig:
    """LLaVA-1.5-7B's own numbers, with the image token of the test tokenizer."""
    return LlavaConfig(
        architectures=["LlavaForConditionalGeneration"],
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "vocab_size": 32064,
        },
        image_token_index=IMAGE,
        dtype=torch.float16,
    )


@pytest.fixture(scope="module")
def llava_7b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with its configuration and a processor, and without weights."""
    folder = tmp_path_factory.mktemp("llava-7b")
    shape = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
    vision = {**seven_billion().vision_config.to_dict(), "num_hidden_layers": 1}
    _, processor = llava(CLIPImageProcessorPil(**shape), {**vision, "hidden_size": 32})
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    settings = folder / "preprocessor_config.json"
    content = json.loads(settings.read_text())
    settings.write_text(json.dumps({**content, "image_processor_type": "CLIPImageProcessor"}))
    seven_billion().save_pretrained(folder)
    assert not list(folder.glob("*.safetensors"))
    return folder


def as_published(methods: str, stages, *, text: int = PUBLISHED_TEXT, n_visual: int = 576):
    """TMACs of LLaVA-1.5-7B by the formula of `methods`."""
    (formula,) = (one for one in FORMULAS if methods in one.methods)
    prompt, config = PromptLengths(0, n_visual, text), seven_billion().text_config
    return published_macs(formula, stages, config, prompt) / 1e12


def drops(*keeps: int, layers):
    return [
        Stage(score_layer=layer, when="after", keep=keep, disposal="drop")
        for layer, keep in zip(layers, keeps, strict=True)
    ]


def test_pdrop_goes_from_3_82_to_1_78_by_its_own_formula():
    assert as_published("PDrop", ()) == pytest.approx(3.82, abs=0.005)
    halves = drops(288, 144, 72, layers=(8, 16, 24))
    assert as_published("PDrop", halves) == pytest.approx(1.78, abs=0.005)
    assert as_published("SwiftVLM", ()) > 4.2, "a control: text counts there"


def test_swiftvlms_table_is_of_69_text_tokens():
    """4.29 T unpruned; FastV and VisionZip 1.71 at 192 and 1.29 at 128; 68 and 71 give others."""
    fits = [
        text
        for text in range(40, 100)
        if round(as_published("SparseVLM", (), text=text), 2) == 4.29
        and round(as_published("SparseVLM", drops(166, layers=(2,)), text=text), 2) == 1.71
        and round(as_published("SparseVLM", drops(98, layers=(2,)), text=text), 2) == 1.29
        and round(as_published("SparseVLM", (), n_visual=192, text=text), 2) == 1.71
        and round(as_published("SparseVLM", (), n_visual=128, text=text), 2) == 1.29
    ]
    assert fits == [PUBLISHED_TEXT]


@pytest.mark.parametrize(
    ("name", "layers", "budget", "published"),
    [
        ("fastv", None, 192, 1.71),
        ("fastv", None, 128, 1.29),
        ("pdrop", (3, 9, 17), 192, 1.72),
        ("pdrop", (3, 9, 17), 128, 1.28),
        ("swiftvlm", (3, 11, 15), 192, 1.75),
        ("swiftvlm", (3, 11, 15), 128, 1.31),
    ],
)
def test_presets_come_out_as_in_swiftvlms_table(llava_7b, name, layers, budget, published):
    """Within 2 %: the table's keep counts are not published, ours are solved for the average."""
    outline = load_outline(llava_7b)
    plan = Schedule.preset(name, outline, budget=budget, layers=layers, n_visual=576)
    prompt = prompt_for(outline, n_visual=576, n_text=PUBLISHED_TEXT)
    rows = cost_report(plan, outline, prompt).published
    (row,) = (row for row in rows if row.formula.methods == "SwiftVLM")
    assert row.unpruned / 1e12 == pytest.approx(4.29, abs=0.005)
    assert row.pruned / 1e12 == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize("name", STAGED)
def test_every_preset_is_costed_without_weights(command: Command, llava_7b: Path, name: str):
    asked = ("--method", name, "--model", llava_7b, "--budget", "55% MACs", "--text-tokens", 69)
    ended = command("cost", *asked, "--json")
    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert said["prompt"]["visual"] == 576
    assert said["prompt"]["text"] == 69
    assert said["dtype"] == "float16"
    total = said["macs"]["total"]
    assert total["pruned"] / total["unpruned"] == pytest.approx(0.55, rel=0.01)
    assert total["pruned"] == sum(
        part["pruned"] for key, part in said["macs"].items() if key != "total"
    )
    assert len(said["tokens_per_layer"]) == 32
    assert said["kv_bytes"]["unpruned"] == 2 * 2 * 4096 * 32 * 645


def test_the_table_says_what_a_reader_needs(command: Command, llava_7b: Path) -> None:
    ended = command("cost", "--method", "swiftvlm", "--model", llava_7b, "--budget", "33%")
    assert ended.code == 0, ended.err
    for word in ("projections", "attention", "MLP", "scoring", "merging", "total", "float16"):
        assert word in ended.out
    words = " ".join(ended.out.replace("│", " ").split())
    assert "576 visual and" in words
    assert "of 576 (33.0%)" in words or "of 576 (33.1%)" in words
    for formula in FORMULAS:
        assert formula.methods in words


def test_weights_are_not_opened_even_where_they_are(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged weights: `cost` does not notice, and everything that loads them does."""
    folder = save_model_directory(tmp_path / "model", tiny_qwen2_vl(layers=8))
    whole = command("cost", "--method", "fastv", "--model", folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    damaged = command("cost", "--method", "fastv", "--model", folder)
    assert (damaged.code, damaged.out) == (0, whole.out)
    assert command("profile", "--model", folder, "--limit", 2).code == 2


def test_what_is_said_is_what_a_run_reports(command: Command, tmp_path: Path) -> None:
    """The bundled model, its own prompt and picture, and a schedule file."""
    vlm = tl.load("tiny-qwen2-vl", device="cpu")
    plan = Schedule.preset("swiftvlm", vlm, budget="40% MACs")
    plan.save(tmp_path / "out.json")
    inputs = vlm.prepare(Image.new("RGB", USUAL_SIZE), USUAL_QUESTION)
    with torch.no_grad(), tl.prune(vlm, plan) as trace:
        vlm.model(**inputs, logits_to_keep=1)
    ended = command("cost", "--dtype", "float32", "--json")
    assert ended.code == 0, ended.err
    said, cost = json.loads(ended.out), trace.cost
    assert said["tokens_per_layer"] == trace.tokens_per_layer[0].tolist()
    for key, pruned, unpruned in (
        ("total", cost.total_macs, cost.unpruned.total_macs),
        ("scoring", cost.scoring_macs, cost.unpruned.scoring_macs),
        ("merging", cost.merging_macs, cost.unpruned.merging_macs),
    ):
        assert said["macs"][key] == {"unpruned": unpruned[0], "pruned": pruned[0]}
    assert said["kv_bytes"] == {
        "unpruned": cost.unpruned.kv_bytes[0],
        "pruned": cost.kv_bytes[0],
    }
    other = json.loads(command("cost", "--dtype", "float32", "--json", "--text-tokens", 40).out)
    assert other["macs"] != said["macs"], "a control"


def test_a_picture_has_the_tokens_the_processor_makes_of_it(
    command: Command, tmp_path: Path
) -> None:
    folder = save_model_directory(tmp_path / "model", tiny_qwen2_vl(layers=8), pixels=48 * 48)
    asked = ("cost", "--method", "fastv", "--model", folder, "--json")
    wide = json.loads(command(*asked, "--picture", "48x16").out)
    assert wide["prompt"]["visual"] == 12 * 4
    named = json.loads(command(*asked, "--visual-tokens", 48).out)
    assert named == wide


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "fastvv"), "fastv"),
        (("--method", "fastv", "--budget", "1 TFLOPs"), "published FLOPs are MACs"),
        (("--method", "pdrop", "--budget", "1%"), "out of reach"),
        (("--method", "pdrop", "--budget", "1% MACs"), "out of reach"),
        (("--budget", "33%"), "name one"),
        (("--method", "fastv", "--schedule", "out.json"), "exclude each other"),
        (("--schedule", "none.json"), "none.json"),
        (("--method", "fastv", "--picture", "48"), "'1024x768'"),
        (("--method", "fastv", "--picture", "0x48"), "20000"),
        (("--method", "fastv", "--picture", "48x48", "--visual-tokens", 9), "exclude each other"),
        (("--method", "fastv", "--model", "qwen2-vll"), "qwen2-vl"),
        (("--method", "fastv", "--dtype", "float31"), "float32"),
    ],
)
def test_errors_are_one_line(command: Command, arguments, words) -> None:
    ended = command("cost", *arguments)
    assert ended.code == 2
    assert words in ended.line


def test_a_schedule_of_another_model_is_refused(command: Command, tmp_path: Path) -> None:
    here = save_model_directory(tmp_path / "here", tiny_qwen2_vl(layers=8))
    there = save_model_directory(tmp_path / "there", tiny_qwen2_vl(layers=8))
    deeper = save_model_directory(tmp_path / "deeper", tiny_qwen2_vl(layers=9))
    Schedule.preset("fastv", load_outline(here), budget="50%").save(tmp_path / "out.json")
    assert command("cost").code == 0
    assert "--any-model" in command("cost", "--model", there).line
    assert command("cost", "--model", there, "--any-model").code == 0
    ended = command("cost", "--model", deeper, "--any-model")
    assert (ended.code, "model.layers" in ended.line) == (2, True)


def test_select_layers_takes_a_budget_in_macs(command: Command, tmp_path: Path) -> None:
    assert command("profile", "--limit", 40, "--out", "profile").code == 0
    ended = command("select-layers", "profile", "--budget", "50% MACs")
    assert ended.code == 0, ended.err
    assert "Note: 50 % MACs are of the prefill of 144 visual and" in ended.out
    said = json.loads(command("cost", "--json").out)
    total = said["macs"]["total"]
    assert total["pruned"] / total["unpruned"] == pytest.approx(0.5, rel=0.01)
    note = Schedule.load(tmp_path / "out.json").budget
    assert note is not None
    assert (note.macs, note.n_visual) == (0.5, 144)
    assert said["prompt"]["text"] == note.n_text
    ended = command("select-layers", "profile", "--budget", "2% MACs")
    assert (ended.code, "out of reach" in ended.line) == (2, True)
