"""Cautions about conclusions that a report's samples do not support."""

from collections import Counter

from tokenlens.probing.profile import Profile
from tokenlens.reports.inputs import Inputs
from tokenlens.wording import cautions


def inputs_cautions(inputs: Inputs) -> list[str]:
    """Sentences on the profile, on the choice of layers and on the results, without repeats."""
    said: list[str] = []
    if inputs.profile is not None:
        said += [f"Of the profile: {sentence}" for sentence in _of_profile(inputs.profile)]
    why = inputs.schedule.why if inputs.schedule else None
    if why is not None:
        said += [f"On the choice of layers: {sentence}" for sentence in why.cautions or ()]
    if inputs.comparison is not None:
        said += inputs.comparison.cautions
    return list(dict.fromkeys(said))


def _of_profile(profile: Profile) -> list[str]:
    counts: Counter[str] = Counter()
    images: list[str] = []
    whole = 0
    for row in profile.rows():
        images.append(cautions.pictures_named(row.image, row.more_images))
        counts[row.task] += bool(row.region.any())
        whole += bool(row.region.all())
    return [
        *cautions.on_left_out(profile.text_only, profile.text_only + len(profile)),
        *cautions.on_few(counts),
        *cautions.on_pictures(images),
        *cautions.on_whole_regions(whole, counts.total()),
    ]
