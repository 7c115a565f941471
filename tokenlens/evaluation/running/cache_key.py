"""Keys of the answer cache: hashes of the sample, and of the model with its run options.

Everything that affects an answer is in one of the two hashes. Everything else (right answers,
regions, the batch, the origin of a schedule) is in neither, so that changing it keeps the answer
valid.
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tokenlens.models.aliases import BUNDLED
from tokenlens.models.composed import COMPOSED
from tokenlens.models.fingerprint import model_identity
from tokenlens.models.sources import find_source
from tokenlens.models.vlm import VLM
from tokenlens.registry import DISPOSALS, IMPORTANCES, SCORERS
from tokenlens.samples.contents import picture_hashes
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule
from tokenlens.schedule.effect import effective_schedule
from tokenlens.storage.files import hash_bytes, hash_json
from tokenlens.storage.versions import versions

_PACKAGES = ("torch", "transformers", "tokenizers", "pillow", "torchvision", "accelerate")
"""Packages that affect an answer, where they are installed."""
_READ_WHOLE = 1 << 20
"""Largest size in bytes of a file beside a model's weights that is hashed by its content."""
EXEMPT = {
    "analyses": "reads what was recorded and answered",
    "cli": "says what to ask, which the identity holds",
    "data": "makes the bundled models and pictures, which are hashed themselves",
    "methods": "makes schedules, which the identity holds",
    "reports": "reads what was recorded and answered",
    "selection": "makes schedules, which the identity holds",
    "tuning": "makes schedules, which the identity holds",
}
"""Packages of tokenlens that affect no answer, with the reason; all others do."""


def sample_key(sample: Sample) -> str:
    """Key of a sample: a hash of the question and of the pictures' bytes, in their order.

    Raises `SampleError` where a picture cannot be read.
    """
    return hash_json([sample.question, *picture_hashes(sample)])


def generation_identity(
    vlm: VLM,
    schedule: Schedule | None,
    generation: dict[str, Any],
    model: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Everything that affects a model's answers, as JSON values.

    Covers the model (every weight, its adapters and buffers, the number type, the attention's
    implementation, the processor; see `model_identity`), the kind of device, the schedule's effect
    (see `effective_schedule`), the generation options, the versions of the packages that compute,
    tokenlens's own code, and the packages that provide the schedule's scorers and disposals.

    Args:
        vlm: the model.
        schedule: its schedule; None for the unpruned model.
        generation: generation options.
        model: its `model_identity` where it is already known; computed otherwise.
        device: kind of device that answers; None for the model's own.
    """
    return {
        "model": {
            **(model or model_identity(vlm)),
            "files": _local_files(vlm.id),
            "device": device or vlm.device.type,
        },
        "generation": generation,
        "schedule": schedule and effective_schedule(schedule),
        "versions": {name: found for name, found in versions().items() if name in _PACKAGES},
        "code": code_hash(),
        "packages": _packages(schedule),
    }


def _packages(schedule: Schedule | None) -> list[str]:
    """Other packages, with their versions, whose scorer, importance or disposals it names."""
    if schedule is None:
        return []
    named = {DISPOSALS.package(stage.disposal) for stage in schedule.stages}
    named |= {SCORERS.package(scorer.query) for scorer in schedule.scorers}
    named.add(IMPORTANCES.package(schedule.recorded_importance))
    return sorted(filter(None, named))


@cache
def code_hash() -> str:
    """Hash of the code that answers depend on: all of tokenlens except `EXEMPT`."""
    root = Path(str(resources.files("tokenlens")))
    return hash_json(
        [[name, hash_bytes((root / name).read_bytes())] for name in deciding_files(root)]
    )


def deciding_files(root: Path) -> list[str]:
    """The modules under `root` that are not `EXEMPT`, as paths from there."""
    files = (file.relative_to(root) for file in root.rglob("*.py"))
    return sorted(file.as_posix() for file in files if not EXEMPT.keys() & set(file.parts))


def _local_files(name: str | None) -> list[list[str]] | None:
    """Names and contents of a local model's small files (code, chat template); else None."""
    if name is None or not (name in BUNDLED or name in COMPOSED or Path(name).is_dir()):
        return None
    return [
        [file.name, hash_bytes(file.read_bytes())]
        for file in sorted(find_source(name).folder.iterdir())
        if file.is_file() and file.stat().st_size <= _READ_WHOLE
    ]
