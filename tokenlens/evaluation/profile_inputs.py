"""Loading of the samples and the model that a profile was made from."""

from typing import TYPE_CHECKING

from tokenlens.errors import ModelError, SampleError
from tokenlens.models.vlm import VLM
from tokenlens.probing.profile import Profile
from tokenlens.probing.profiled_pictures import KEY as PICTURES
from tokenlens.probing.profiled_pictures import first_changed, hashes_of
from tokenlens.samples.dataset import SPLITS, Samples, load_samples
from tokenlens.samples.sample import quoted
from tokenlens.storage.output_paths import same_model

if TYPE_CHECKING:
    from pathlib import Path


def profiled_samples(
    profile: Profile, data: "Path | str | None" = None, limit: int | None = None
) -> Samples:
    """The samples of a profile, or the calibration samples that `data` names.

    Args:
        profile: a finished profile.
        data: see `load_samples`.
        limit: maximum number of samples, taken from the tasks in turn.

    Raises:
        SampleError: the profile's data are missing or have changed.
    """
    if data is not None:
        return load_samples(data, "calibration", limit)
    then = profile.manifest["identity"]["data"]
    split = then["split"] if then["split"] in SPLITS else "calibration"
    try:
        samples = load_samples(then["source"], split, then["samples"])
    except SampleError as error:
        raise SampleError(
            f"the samples of {profile.directory} cannot be read again: {error}; name others with "
            "--data"
        ) from error
    if samples.hash != then["hash"]:
        raise SampleError(
            f"the samples of {profile.directory}, {then['source']}, are not those that were "
            f"profiled (hash {samples.hash}, then {then['hash']}); profile them again, or name "
            "others with --data"
        )
    _refuse_changed(profile, samples)
    if limit is None or limit >= len(samples):
        return samples
    return load_samples(then["source"], split, limit)


def _refuse_changed(profile: Profile, samples: Samples) -> None:
    """Raise `SampleError` where a picture is another than the one that was profiled."""
    before = profile.manifest.get(PICTURES)
    if before is None:
        return
    pictured = [sample for sample in samples if sample.pictures]
    if changed := first_changed(pictured, before, hashes_of(pictured)):
        raise SampleError(
            f"the picture of sample {quoted(changed.id)} was changed since {profile.directory} was "
            "made; profile the samples again, or name others with --data"
        )


def profiled_model(
    profile: Profile, model: str | None = None, revision: str | None = None
) -> tuple[str, str | None]:
    """Name and revision of a profile's model; given values take precedence.

    Raises `ModelError` where the profile is of a wrapped model, because it has no name.
    """
    then = profile.manifest["identity"]["model"]
    name = model or then["id"]
    if name is None:
        raise ModelError(
            f"{profile.directory} is a profile of a model without a name; say with --model where "
            "it lies"
        )
    return name, revision or (then["revision"] if model is None else None)


def require_profiled(vlm: VLM, profile: Profile) -> None:
    """Raise `ModelError` where `vlm` is not the model of the profile; its path does not matter."""
    then = profile.manifest["identity"]["model"]
    now = {"config_hash": vlm.config_hash, "weights": vlm.weights_hash}
    if not same_model(then, now):
        raise ModelError(
            f"{profile.directory} is a profile of another model than {vlm.id}: the configuration's "
            f"hash was {then['config_hash']} and the weights' {then.get('weights')}, now they are "
            f"{now['config_hash']} and {now['weights']}; profile this one first"
        )
