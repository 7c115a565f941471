"""By what an answer is known again: what the model is, what it is asked, and how it runs.

Whatever bears on an answer is in one of two hashes; what does not (right answers, regions, the
batch, why a schedule was chosen) is in neither, so that it can change and the answer still holds.
"""

from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL.Image import Image

from tokenlens.models.aliases import BUNDLED
from tokenlens.models.sources import find_source
from tokenlens.models.vlm import VLM
from tokenlens.registry import DISPOSALS, SCORERS
from tokenlens.samples.pictures import StoredPicture
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule
from tokenlens.storage.files import hash_bytes, hash_json

_NOTES = {"schema", "method", "model", "budget", "why"}
"""Keys of a schedule that say nothing of what it does to a picture."""
_PACKAGES = ("torch", "transformers")
_READ_WHOLE = 1 << 20
"""Bytes up to which a model's file is told by its content; larger ones by size and date."""
_CODE = (
    "models",
    "probing",
    "pruning",
    "evaluation/running/generation.py",
    "registry.py",
    "schedule",
)
_PRESETS = "methods"


def sample_key(sample: Sample) -> str:
    """What a model is shown and asked: the question and the picture's own bytes.

    Raises `SampleError` where the picture cannot be read.
    """
    return hash_json([sample.question, hash_bytes(_picture_bytes(sample))])


def generation_identity(
    vlm: VLM, schedule: Schedule | None, generation: dict[str, Any]
) -> dict[str, Any]:
    """What decides how a model answers: JSON values.

    Covers the weights (some values of each, and for a local directory its files), the processor,
    the number type, the kind of device, the schedule's scorer, stages and all else that it does,
    the generation options, the versions of torch and transformers, tokenlens's own code, and the
    packages that added what the schedule names.
    """
    processor = vlm.processor
    return {
        "model": {
            "id": vlm.id,
            "revision": vlm.revision,
            "config_hash": vlm.config_hash,
            "files": _local_files(vlm.id),
            "processor": hash_json(
                [
                    str(getattr(processor, "chat_template", None)),
                    str(getattr(processor, "image_processor", None)),
                ]
            ),
            "dtype": str(vlm.dtype).removeprefix("torch."),
            "device": vlm.device.type,
        },
        "generation": generation,
        "schedule": schedule and effective_schedule(schedule),
        "versions": {name: version(name) for name in _PACKAGES},
        "code": code_hash(),
        "packages": _packages(schedule),
    }


def _packages(schedule: Schedule | None) -> list[str]:
    """Other packages, with their versions, whose scorer or disposals a schedule names."""
    if schedule is None:
        return []
    named = {DISPOSALS.package(stage.disposal) for stage in schedule.stages}
    named |= {SCORERS.package(scorer.query) for scorer in schedule.scorers}
    return sorted(filter(None, named))


def effective_schedule(schedule: Schedule) -> dict[str, Any]:
    """A schedule without its name, its model, its budget and why it was chosen."""
    return {key: value for key, value in schedule.as_json().items() if key not in _NOTES}


@cache
def code_hash() -> str:
    """Hash of the code that answers depend on; presets are not among it, they make schedules."""
    root = Path(str(resources.files("tokenlens")))
    files = [
        file
        for place in (root / name for name in _CODE)
        for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])
        if _PRESETS not in file.relative_to(root).parts
    ]
    return hash_json(
        [[str(file.relative_to(root)), hash_bytes(file.read_bytes())] for file in files]
    )


def _local_files(name: str | None) -> list[list[Any]] | None:
    """Name, size and content or date of every file of a local model; None for any other."""
    if name is None or not (name in BUNDLED or Path(name).is_dir()):
        return None
    found: list[list[Any]] = []
    for file in sorted(find_source(name).folder.iterdir()):
        if file.is_file():
            size, date = file.stat().st_size, file.stat().st_mtime_ns
            content = hash_bytes(file.read_bytes()) if size <= _READ_WHOLE else date
            found.append([file.name, size, content])
    return found


def _picture_bytes(sample: Sample) -> bytes:
    image = sample.image
    if isinstance(image, Image):
        return f"{image.mode} {image.size} {image.getexif().tobytes()!r}".encode() + image.tobytes()
    if isinstance(image, StoredPicture):
        return image.read()
    try:
        return Path(image).read_bytes()
    except OSError:
        sample.open_image()  # says what is wrong with it
        raise
