"""Plausibility checks of a checkpoint's files, without loading the weights.

Only `config.json` and the headers of the weight files are read, without torch or transformers. A
wrong number there would otherwise cost minutes, all memory, or a crash far from its cause.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenlens.errors import ModelError
from tokenlens.storage.json_files import read_object

_REMEDY = "expected a model directory as written by save_pretrained"
_LARGEST: Mapping[str, int] = {
    "num_hidden_layers": 1_000,
    "depth": 1_000,
    "hidden_size": 2**20,
    "embed_dim": 2**20,
    "out_hidden_size": 2**20,
    "intermediate_size": 2**22,
    "head_dim": 2**16,
    "num_attention_heads": 2**14,
    "num_key_value_heads": 2**14,
    "num_heads": 2**14,
    "vocab_size": 2**26,
    "patch_size": 2**12,
    "image_size": 2**16,
    "spatial_merge_size": 2**8,
    "temporal_patch_size": 2**8,
    "image_token_id": 2**26,
    "image_token_index": 2**26,
}
"""The largest value of each size that is taken for one; far above any published model's."""
_FROM_ZERO = ("image_token_id", "image_token_index")
_SPLIT_BY_SECTIONS = ("qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text")
"""Model types that split a head by `mrope_section`."""
_HEADER_LIMIT = 100 * 2**20
_DTYPES = ("float32", "float16", "bfloat16", "float64", "auto")


def check_config(folder: Path) -> dict[str, Any]:
    """The content of `config.json`, with plausible sizes.

    Raises `ModelError` where the file is missing or not a JSON object, or where a size, a dtype or
    the model type in it is impossible.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{folder} is no model directory: it has no config.json; expected one as written by "
            "save_pretrained"
        )
    config = read_object(path, ModelError, _REMEDY)
    generation = folder / "generation_config.json"
    if generation.is_file():
        read_object(generation, ModelError, _REMEDY)
    kind = config.get("model_type")
    if kind is not None and not isinstance(kind, str):
        raise ModelError(f"{path}: model_type: got {_shown(kind)}, expected a text such as 'llava'")
    _architectures(path, config)
    for where, part in _parts("", config):
        for key, largest in _LARGEST.items():
            if part.get(key) is not None:
                _check_size(f"{path}: {where}{key}", key, part[key], largest)
        _check_heads(f"{path}: {where}", part)
        _check_sections(f"{path}: {where}", part)
        _check_dtype(f"{path}: {where}", part)
    return config


def _parts(where: str, config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The configuration and its nested ones, each with the prefix of its keys."""
    yield where, config
    for key, value in config.items():
        if key.endswith("_config") and isinstance(value, dict):
            yield from _parts(f"{where}{key}.", value)


def _check_size(where: str, key: str, value: Any, largest: int) -> None:
    """Check a size: an integer, or a height and a width for keys that allow both."""
    sides = value
    if isinstance(value, dict) and key in ("patch_size", "image_size"):
        sides = list(value.values())
    for side in sides if isinstance(sides, list) and sides else [sides]:
        least = 0 if key in _FROM_ZERO else 1
        if type(side) is not int or not least <= side <= largest:
            raise ModelError(
                f"{where}: got {_shown(value)}, expected an integer from {least} to {largest}"
            )


def _check_heads(where: str, part: dict[str, Any]) -> None:
    heads, key_heads = part.get("num_attention_heads"), part.get("num_key_value_heads")
    width = part.get("hidden_size")
    if not isinstance(heads, int):
        return
    if isinstance(key_heads, int) and heads % key_heads:
        raise ModelError(
            f"{where}num_key_value_heads: got {key_heads}, expected a divisor of "
            f"num_attention_heads, {heads}"
        )
    if isinstance(width, int) and part.get("head_dim") is None and width % heads:
        raise ModelError(
            f"{where}num_attention_heads: got {heads}, expected a divisor of hidden_size, {width}"
        )


def _check_sections(where: str, part: dict[str, Any]) -> None:
    """Check that sections of a multi-axis rotary embedding sum to half a head's rotated size."""
    heads, width, head = (
        part.get(key) for key in ("num_attention_heads", "hidden_size", "head_dim")
    )
    if part.get("model_type") not in _SPLIT_BY_SECTIONS:
        return
    for key in ("rope_parameters", "rope_scaling"):
        rope = part.get(key)
        sections = rope.get("mrope_section") if isinstance(rope, dict) else None
        if sections is None or not (head or (heads and width)):
            continue
        share = part[key].get("partial_rotary_factor", 1.0)
        pairs = int((head or part["hidden_size"] // part["num_attention_heads"]) * share) // 2
        integers = isinstance(sections, list) and all(type(one) is int for one in sections)
        if not integers or sum(sections) != pairs:
            raise ModelError(
                f"{where}{key}.mrope_section: got {_shown(sections)}, expected integers that sum "
                f"to {pairs}, half the width of a head"
            )


def _check_dtype(where: str, part: dict[str, Any]) -> None:
    for key in ("dtype", "torch_dtype"):
        value = part.get(key)
        if value is not None and str(value).removeprefix("torch.") not in _DTYPES:
            raise ModelError(
                f"{where}{key}: got {_shown(value)}, expected float32, float16, bfloat16 or float64"
            )


def check_weights(
    folder: Path, *, quantised: bool = False, embeddings: tuple[int, int] | None = None
) -> None:
    """Raise `ModelError` where the weights' index or a file's header shows that they are damaged.

    Weights in other formats than safetensors are not checked here. Integer weights are allowed only
    in `quantised` models. `embeddings` is the shape of the text embeddings by the configuration: a
    model of other widths would be built completely before the first weight is read.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.is_file():
        _check_header(single, _header(single), quantised, embeddings)
    elif index.is_file():
        for shard, names in _shards(index).items():
            header = _header(folder / shard)
            _check_header(folder / shard, header, quantised, embeddings)
            if missing := names - set(header):
                raise ModelError(
                    f"the weights in {folder} are incomplete: {shard} lacks {min(missing)}, which "
                    f"{index.name} says it holds; copy the checkpoint's files again"
                )
    elif not any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} holds no weights: expected model.safetensors, or its index and shards, "
            "beside config.json"
        )


def _check_header(
    path: Path,
    header: Mapping[str, Any],
    quantised: bool,
    embeddings: tuple[int, int] | None,
) -> None:
    for name, entry in header.items():
        found = entry.get("shape")
        if name.endswith("embed_tokens.weight") and embeddings and not quantised:
            _check_embeddings(f"{name} in {path}", found, embeddings)
        if name.endswith(".weight") and not quantised and "F" not in str(entry.get("dtype")):
            raise ModelError(
                f"the weights in {path.parent} are damaged: {name} in {path.name} is of "
                f"{entry.get('dtype')}, expected floating-point numbers"
            )


def _check_embeddings(where: str, found: Any, expected: tuple[int, int]) -> None:
    if found != list(expected):
        raise ModelError(
            f"the weights do not fit their config.json: {where} is of shape {_shown(found)}, by "
            f"vocab_size and hidden_size it is {list(expected)}; take both from the same checkpoint"
        )


def _shards(index: Path) -> dict[str, set[str]]:
    """Every shard that an index names, with the names of its weights."""
    weight_map = read_object(index, ModelError, _REMEDY).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(
            f"the weights' index {index} names none: weight_map: got {_shown(weight_map)}, "
            "expected an object of weights and their files; copy the checkpoint's files again"
        )
    shards: dict[str, set[str]] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise ModelError(
                f"the weights' index {index}: weight_map: {name}: got {_shown(file)}, expected the "
                "name of a file beside it"
            )
        shards.setdefault(file, set()).add(name)
    return shards


def _header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file; `ModelError` where its tensors do not fill the file."""
    if not path.is_file():
        raise ModelError(
            f"the weights in {path.parent} are incomplete: {path.name} is missing; copy the "
            "checkpoint's files again"
        )
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if 8 + length <= size and length <= _HEADER_LIMIT else b""
    try:
        header = json.loads(text)
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        whole = max(ends, default=0) == size - 8 - length
    except (ValueError, RecursionError, AttributeError, KeyError, IndexError, TypeError):
        whole = False
    if not whole:
        raise ModelError(
            f"the weights in {path.parent} cannot be loaded: {path.name} is cut short or is no "
            "safetensors file; copy it again"
        )
    return dict(header)


def _architectures(path: Path, config: Mapping[str, Any]) -> None:
    """Raise `ModelError` where `architectures` is not a list of names."""
    named = config.get("architectures")
    if named is not None and not (
        isinstance(named, list) and all(isinstance(one, str) for one in named)
    ):
        raise ModelError(f"{path}: architectures: got {_shown(named)}, expected a list of names")


def _shown(value: Any) -> str:
    """A value as JSON, shortened to fit in a message."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f"{text[:57]}…"
