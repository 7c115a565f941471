"""Checks of a model's name, options and files before torch is imported."""

from pathlib import Path

from tokenlens.models.adapter_files import check_adapter
from tokenlens.models.checkpoint_files import check_config, check_weights
from tokenlens.models.names import Source, resolve
from tokenlens.models.place_words import check_device_map, dtype_name
from tokenlens.models.quantisation import check_quantisation, quantised_by


def check_model(
    name: str | Path,
    revision: str | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    device_map: str | None = None,
    quantize: str | None = None,
    adapter: Path | None = None,
    weights: bool = True,
) -> None:
    """Raise the errors of `loading.load` early, as far as they can be found without the network.

    Args:
        name: as for `load`; only the form of a hub id is checked.
        revision: as for `load`.
        device: as for `load`.
        dtype: as for `load`.
        device_map: as for `load`.
        quantize: as for `load`.
        adapter: as for `load`.
        weights: whether the weights will be read too.

    Raises:
        ModelError: a name, option or file that cannot be used.
    """
    check_device_map(device_map, device)
    if dtype is not None:
        dtype_name(dtype)
    check_quantisation(quantize, dtype=dtype, device_map=device_map)
    if adapter is not None:
        check_adapter(adapter)
    found = resolve(name, revision)
    if isinstance(found, Source):
        config = check_config(found.folder)
        check_quantisation(quantize, own=quantised_by(config.get("quantization_config")))
        if weights:
            check_weights(found.folder, quantised="quantization_config" in config)
