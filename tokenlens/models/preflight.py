"""Checks of a model's name, options and files before torch is imported."""

from pathlib import Path

from tokenlens.models.checkpoint_files import check_config, check_weights
from tokenlens.models.names import Source, resolve
from tokenlens.models.place_words import check_device_map, dtype_name


def check_model(
    name: str | Path,
    revision: str | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    device_map: str | None = None,
    weights: bool = True,
) -> None:
    """Raise the errors of `loading.load` early, as far as they can be found without the network.

    Args:
        name: as for `load`; only the form of a hub id is checked.
        revision: as for `load`.
        device: as for `load`.
        dtype: as for `load`.
        device_map: as for `load`.
        weights: whether the weights will be read too.

    Raises:
        ModelError: a name, option or file that cannot be used.
    """
    check_device_map(device_map, device)
    if dtype is not None:
        dtype_name(dtype)
    found = resolve(name, revision)
    if isinstance(found, Source):
        config = check_config(found.folder)
        if weights:
            check_weights(found.folder, quantised="quantization_config" in config)
