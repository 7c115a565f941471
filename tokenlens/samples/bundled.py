"""The data sets that ship with the package."""

from importlib import resources
from pathlib import Path

SCENES, PHOTOS = "scenes", "photos"
BUNDLED = (SCENES, PHOTOS)
"""Scenes of coloured shapes, in two splits; photographs, in one, which are no measure of scores."""


def bundled_folder(name: str) -> Path:
    """The folder of a bundled data set: its manifests and pictures."""
    return Path(str(resources.files("tokenlens.data") / name))
