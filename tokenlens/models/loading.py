"""Loading of a vision-language model and its processor, by name, hub id or directory."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from tokenlens.errors import ModelError
from tokenlens.models.adapter_files import check_adapter
from tokenlens.models.adapting import add_adapter
from tokenlens.models.checkpoint_files import check_config, check_weights
from tokenlens.models.finite import check_finite
from tokenlens.models.place_words import check_device_map, parts_of
from tokenlens.models.placement import find_device, find_dtype
from tokenlens.models.processing import has_processor, load_processor
from tokenlens.models.quantisation import check_quantisation, quantised_by
from tokenlens.models.quantising import quantisation_config, work_in_inference_mode
from tokenlens.models.sources import find_source
from tokenlens.models.vlm import VLM


def load(
    name: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    quantize: str | None = None,
    adapter: str | Path | None = None,
) -> VLM:
    """Load a vision-language model with its processor.

    Args:
        name: a bundled model, an alias (`tokenlens models` lists both), a hub id or a local
            directory. A directory called like a bundled model or an alias is written `./name`.
        device: where the model goes; by default the accelerator if there is one, else the CPU.
        dtype: "float32", "bfloat16", "float16", "float64" (or fp32, bf16, …), or "auto" for the
            checkpoint's own; by default float32 on a CPU and "auto" elsewhere.
        device_map: spread the model with accelerate instead: "auto", "balanced", "sequential",
            "disk" (weights stay there and are read when their layer runs), or a map from names of
            modules to devices, "cpu" or "disk".
        revision: branch, tag or commit of a hub model.
        quantize: quantise the linear layers as they are loaded: "torchao-int8", "quanto-int4", … (a
            key of `tokenlens.models.quantisation.QUANTISATIONS`). The dtype is that of the rest.
        adapter: directory of a PEFT adapter, which is put onto the loaded model.

    Raises:
        ModelError: an unknown name (the nearest are offered), a hub model that cannot be fetched, a
            directory that holds no vision-language model or a damaged one, a device or dtype that
            is unknown or not available here, a quantisation or an adapter that cannot be used.

    >>> vlm = load("tiny-qwen2-vl", device="cpu")
    >>> vlm.architecture, vlm.layers >= 12
    ('Qwen2VLForConditionalGeneration', True)
    """
    check_device_map(device_map, device)
    folder = None if adapter is None else Path(adapter).resolve()
    if folder is not None:
        check_adapter(folder)
    place = find_device(device)
    precision = find_dtype(dtype, place)
    check_quantisation(quantize, dtype=str(precision), device_map=device_map)
    source = find_source(name, revision)
    config = _load_config(source.folder)
    settings: dict[str, Any] = {"device_map": parts_of(device_map)}
    if quantize is not None:
        check_quantisation(quantize, own=quantised_by(getattr(config, "quantization_config", None)))
        settings["quantization_config"] = quantisation_config(quantize, place)
        settings["device_map"] = settings["device_map"] or {"": place}
    model = _load_weights(source.folder, config, precision, settings)
    if settings["device_map"] is None:
        model.to(place)  # type: ignore[arg-type]
    if quantize is not None:
        work_in_inference_mode(quantize, model)
    if folder is not None:
        add_adapter(model, folder)
    processor = load_processor(source.folder, config)
    return VLM(
        model,
        processor,
        id=source.id,
        revision=source.revision,
        quantize=quantize,
        adapter=None if folder is None else str(folder),
    )


def load_outline(
    name: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
) -> VLM:
    """All of a model but its weights, which are neither downloaded nor read.

    It says how deep and wide the model is, and its processor makes inputs; it cannot be run. A
    directory that holds nothing of a processor, perhaps only `config.json`, gives one without.

    Args:
        name: as for `load`.
        dtype: as for `load`; by default the checkpoint's own.
        revision: branch, tag or commit of a hub model.

    Raises:
        ModelError: as `load` does, but for damaged weights.

    >>> outline = load_outline("tiny-qwen2-vl")
    >>> outline.layers >= 12, outline.model.device.type, outline.device.type
    (True, 'meta', 'cpu')
    """
    precision = find_dtype(dtype, torch.device("meta"))
    source = find_source(name, revision, weights=False)
    config = _load_config(source.folder)
    if isinstance(precision, str):
        precision = config.dtype or config.get_text_config().dtype or torch.float32
    try:
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config, dtype=precision)
    except Exception as error:
        raise ModelError(
            f"{source.folder / 'config.json'} describes no model that can be built: {_short(error)}"
        ) from error
    processor = load_processor(source.folder, config) if has_processor(source.folder) else None
    return VLM(model, processor, id=source.id, revision=source.revision)


def _load_config(folder: Path) -> PreTrainedConfig:
    check_config(folder)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        # Unexpected values in a configuration may raise any exception.
        raise ModelError(f"{folder / 'config.json'} cannot be used: {_short(error)}") from error
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ModelError(
            f"{folder} holds a {config.model_type!r} model, which is no vision-language model; "
            "expected one such as Qwen2-VL"
        )
    _check_kind(config, folder)
    return config


def _check_kind(config: PreTrainedConfig, folder: Path) -> None:
    """Raise `ModelError` for an architecture or a quantisation that would be silently ignored."""
    kind: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    loaded = kind.__name__
    if config.architectures and loaded not in config.architectures:
        raise ModelError(
            f"{folder} holds a {config.architectures[0]}, its model type {config.model_type!r} is "
            f"loaded as {loaded}; expected config.json's architectures to name that"
        )
    method = quantised_by(getattr(config, "quantization_config", None))
    if method is not None and method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise ModelError(
            f"{folder} is quantised by {method!r}, which transformers does not know; expected one "
            f"of {', '.join(AUTO_QUANTIZATION_CONFIG_MAPPING)}"
        )


def _load_weights(
    folder: Path, config: PreTrainedConfig, dtype: torch.dtype | str, settings: dict[str, Any]
) -> PreTrainedModel:
    """The model; `settings` are further arguments of `from_pretrained`."""
    text = config.get_text_config(decoder=True)
    check_weights(
        folder,
        quantised=getattr(config, "quantization_config", None) is not None,
        embeddings=(text.vocab_size, text.hidden_size),
    )
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            output_loading_info=True,
            **settings,
        )
    except Exception as error:
        # Building a model from an unusual configuration may raise any exception.
        if "ignore_mismatched_sizes" in str(error):
            raise ModelError(
                f"the weights in {folder} do not fit its config.json: they are of other shapes; "
                "take both from the same checkpoint"
            ) from error
        raise ModelError(f"the weights in {folder} cannot be loaded: {_short(error)}") from error
    model: PreTrainedModel = loaded[0]
    info = loaded[1]
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(
            f"the weights in {folder} are incomplete: {len(missing)} are missing, among them "
            f"{missing[0]}"
        )
    check_finite(model, folder)
    return model


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    named = isinstance(error, OSError | ValueError | RuntimeError) and text
    return (text if named else f"{type(error).__name__}: {text}")[:300]
