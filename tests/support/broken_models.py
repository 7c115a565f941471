"""Ways in which a model directory is broken, each a change to a copy of tiny-qwen2-vl."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Change = Callable[[Path], None]


def _edited(file: str, path: str, value: Any) -> Change:
    """Set the value at `path` ("a.b") of a JSON file; `...` takes it out."""

    def change(folder: Path) -> None:
        whole = json.loads((folder / file).read_text("utf-8"))
        *parents, last = path.split(".")
        place = whole
        for key in parents:
            place = place.setdefault(key, {})
        if value is ...:
            del place[last]
        else:
            place[last] = value
        (folder / file).write_text(json.dumps(whole), "utf-8")

    return change


def _written(file: str, content: str | bytes) -> Change:
    def change(folder: Path) -> None:
        data = content if isinstance(content, bytes) else content.encode()
        (folder / file).write_bytes(data)

    return change


def _without(file: str) -> Change:
    return lambda folder: (folder / file).unlink()


def _weights(edit: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        edit(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return change


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _sharded(index: Callable[[dict[str, str]], Any], *, keep: tuple[int, ...] = (0, 1)) -> Change:
    """Two shards and an index that `index` makes of the weight map; only `keep` is there."""

    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        names = sorted(tensors)
        halves = names[::2], names[1::2]
        weight_map = {}
        for number, half in enumerate(halves):
            file = f"model-0000{number + 1}-of-00002.safetensors"
            weight_map |= dict.fromkeys(half, file)
            if number in keep:
                shard = {name: tensors[name] for name in half}
                save_file(shard, folder / file, metadata={"format": "pt"})
        path.unlink()
        text = json.dumps(index(weight_map))
        (folder / "model.safetensors.index.json").write_text(text, "utf-8")

    return change


def whole_index(weight_map: dict[str, str]) -> dict[str, Any]:
    """An index as transformers writes it."""
    return {"metadata": {"total_size": 0}, "weight_map": weight_map}


_CONFIG, _TOKENIZER = "config.json", "tokenizer.json"
_TEXT = "text_config."
_SOME = _UP = "model.layers.3.mlp.up_proj.weight"
_GATE = "model.layers.3.mlp.gate_proj.weight"


def _fill(value: float, name: str = _SOME) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda tensors: tensors[name].view(-1)[:1].fill_(value)


BROKEN: dict[str, Change] = {
    "config empty": _written(_CONFIG, ""),
    "config cut": _written(_CONFIG, '{"model_type": "qwen2_vl", "text'),
    "config a list": _written(_CONFIG, "[]"),
    "config null": _written(_CONFIG, "null"),
    "config not text": _written(_CONFIG, b"\xff\xfe\x00\x80"),
    "config nested": _written(_CONFIG, '{"a":' * 100_000 + "1" + "}" * 100_000),
    "config missing": _without(_CONFIG),
    "config twice": _written(_CONFIG, '{"model_type": "qwen2_vl", "model_type": "llava"}'),
    "model type missing": _edited(_CONFIG, "model_type", ...),
    "model type a number": _edited(_CONFIG, "model_type", 7),
    "model type unknown": _edited(_CONFIG, "model_type", "nobodys_vl"),
    "architecture unknown": _edited(_CONFIG, "architectures", ["NobodysForGeneration"]),
    "architectures a text": _edited(_CONFIG, "architectures", "Qwen2VL"),
    "text config a list": _edited(_CONFIG, "text_config", []),
    "text config null": _edited(_CONFIG, "text_config", None),
    "vision config a text": _edited(_CONFIG, "vision_config", "large"),
    "hidden a text": _edited(_CONFIG, _TEXT + "hidden_size", "wide"),
    "hidden zero": _edited(_CONFIG, _TEXT + "hidden_size", 0),
    "hidden negative": _edited(_CONFIG, _TEXT + "hidden_size", -96),
    "hidden half": _edited(_CONFIG, _TEXT + "hidden_size", 96.5),
    "hidden huge": _edited(_CONFIG, _TEXT + "hidden_size", 2**40),
    "hidden of 5000 digits": _edited(_CONFIG, _TEXT + "hidden_size", 10**4000),
    "hidden another": _edited(_CONFIG, _TEXT + "hidden_size", 192),
    "layers huge": _edited(_CONFIG, _TEXT + "num_hidden_layers", 10**7),
    "layers negative": _edited(_CONFIG, _TEXT + "num_hidden_layers", -1),
    "layers null": _edited(_CONFIG, _TEXT + "num_hidden_layers", None),
    "layers true": _edited(_CONFIG, _TEXT + "num_hidden_layers", True),
    "layers a list": _edited(_CONFIG, _TEXT + "num_hidden_layers", [24]),
    "heads zero": _edited(_CONFIG, _TEXT + "num_attention_heads", 0),
    "heads do not divide": _edited(_CONFIG, _TEXT + "num_attention_heads", 7),
    "key heads zero": _edited(_CONFIG, _TEXT + "num_key_value_heads", 0),
    "key heads do not divide": _edited(_CONFIG, _TEXT + "num_key_value_heads", 3),
    "vocabulary huge": _edited(_CONFIG, _TEXT + "vocab_size", 10**12),
    "vocabulary negative": _edited(_CONFIG, _TEXT + "vocab_size", -5),
    "vision depth huge": _edited(_CONFIG, "vision_config.depth", 10**7),
    "patch zero": _edited(_CONFIG, "vision_config.patch_size", 0),
    "patch a text": _edited(_CONFIG, "vision_config.patch_size", "14"),
    "merge zero": _edited(_CONFIG, "vision_config.spatial_merge_size", 0),
    "activation unknown": _edited(_CONFIG, _TEXT + "hidden_act", "swoosh"),
    "dtype unknown": _edited(_CONFIG, "dtype", "float17"),
    "dtype a number": _edited(_CONFIG, "dtype", 16),
    "dtype of integers": _edited(_CONFIG, "dtype", "int8"),
    "kernel unknown": _edited(_CONFIG, "attn_implementation", "lightning_attention"),
    "kernel of a hub": _edited(_CONFIG, "_attn_implementation", "nobody/kernels"),
    "kernel private": _edited(_CONFIG, "_attn_implementation", "warp"),
    "rope unknown": _edited(_CONFIG, _TEXT + "rope_parameters", {"rope_type": "spiral"}),
    "rope theta a text": _edited(_CONFIG, _TEXT + "rope_parameters.rope_theta", "big"),
    "rope section": _edited(_CONFIG, _TEXT + "rope_parameters.mrope_section", [1, 2]),
    "epsilon a text": _edited(_CONFIG, _TEXT + "rms_norm_eps", "tiny"),
    "image token a text": _edited(_CONFIG, "image_token_id", "<image>"),
    "image token missing": _edited(_CONFIG, "image_token_id", None),
    "image token another": _edited(_CONFIG, "image_token_id", 9),
    "image token beyond": _edited(_CONFIG, "image_token_id", 10**6),
    "quantised somehow": _edited(_CONFIG, "quantization_config", {"quant_method": "nobody"}),
    "generation cut": _written("generation_config.json", "{"),
    "generation a list": _written("generation_config.json", "[]"),
    "weights missing": _without("model.safetensors"),
    "weights empty": _written("model.safetensors", b""),
    "weights cut": _cut,
    "weights no header": _written("model.safetensors", b"\xff" * 4096),
    "weights text": _written("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"),
    "weight missing": _weights(lambda tensors: tensors.pop(_SOME)),
    "weight of another shape": _weights(lambda t: t.update({_SOME: t[_SOME][:-1].clone()})),
    "weight of integers": _weights(lambda t: t.update({_SOME: t[_SOME].to(torch.int32)})),
    "weight not a number": _weights(_fill(float("nan"))),
    "weight infinite": _weights(_fill(float("inf"))),
    "weights overflow": _weights(lambda t: [t[_UP].fill_(1e38), t[_GATE].fill_(1e38)]),
    "index empty": _sharded(lambda _: {}),
    "index without weights": _sharded(lambda _: whole_index({})),
    "index a list": _sharded(list),
    "index names no file": _sharded(lambda m: whole_index(dict.fromkeys(m, "gone.safetensors"))),
    "index names a number": _sharded(lambda m: whole_index(dict.fromkeys(m, 3))),  # type: ignore[arg-type]
    "index leaves the folder": _sharded(
        lambda m: whole_index(dict.fromkeys(m, "../../etc/passwd"))
    ),
    "shard missing": _sharded(whole_index, keep=(0,)),
    "template cut": _written("chat_template.jinja", "{% for message in messages %}"),
    "template empty": _written("chat_template.jinja", ""),
    "template without pictures": _written("chat_template.jinja", "{{ messages[0].role }}"),
    "template endless": _written(
        "chat_template.jinja",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a %}"
        "{% endfor %}{% endfor %}",
    ),
    "template explodes": _written(
        "chat_template.jinja", "{% set x = 'ab' * 100000000 %}{{ x * 100 }}"
    ),
    "template recurses": _written(
        "chat_template.jinja", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"
    ),
    "template reaches out": _written(
        "chat_template.jinja", "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    ),
    "template unknown name": _written("chat_template.jinja", "{{ nobody.knows }}"),
    "tokenizer missing": _without(_TOKENIZER),
    "tokenizer empty": _written(_TOKENIZER, ""),
    "tokenizer cut": _written(_TOKENIZER, '{"version": "1.0", "model": {'),
    "tokenizer an object": _written(_TOKENIZER, "{}"),
    "tokenizer a list": _written(_TOKENIZER, "[]"),
    "tokenizer of no words": _edited(_TOKENIZER, "model.vocab", {}),
    "tokenizer kind unknown": _edited(_TOKENIZER, "model.type", "Nobody"),
    "tokenizer settings cut": _written("tokenizer_config.json", "{"),
    "pictures missing": _without("preprocessor_config.json"),
    "pictures empty": _written("preprocessor_config.json", ""),
    "pictures a list": _written("preprocessor_config.json", "[]"),
    "pictures of a kind unknown": _edited(
        "preprocessor_config.json", "image_processor_type", "NobodysProcessor"
    ),
    "pictures patch zero": _edited("preprocessor_config.json", "patch_size", 0),
    "pictures another patch": _edited("preprocessor_config.json", "patch_size", 13),
    "pictures merge zero": _edited("preprocessor_config.json", "merge_size", 0),
    "pictures size a text": _edited("preprocessor_config.json", "size", "large"),
    "pictures mean a text": _edited("preprocessor_config.json", "image_mean", "grey"),
    "pictures spread zero": _edited("preprocessor_config.json", "image_std", [0, 0, 0]),
}

NAMED: dict[str, tuple[str, ...]] = {
    "image token another": ("'<|image_pad|>'", "is 6", "image_token_id is 9"),
    "weight not a number": ("model.language_model.layers.3.mlp.up_proj.weight", "finite"),
    "weights overflow": ("not a number",),
    "weight of another shape": ("do not fit", "config.json"),
    "shard missing": ("model-00002-of-00002.safetensors", "missing"),
    "index without weights": ("model.safetensors.index.json", "weight_map"),
    "pictures another patch": ("patch_size", "13", "14"),
    "pictures spread zero": ("image_std", "[0, 0, 0]"),
    "architecture unknown": ("NobodysForGeneration", "Qwen2VLForConditionalGeneration"),
    "template endless": ("chat template", "3 seconds"),
    "activation unknown": ("swoosh",),
    "layers negative": ("text_config.num_hidden_layers", "-1"),
    "quantised somehow": ("'nobody'",),
}
"""What the refusal must name, of some of them."""
