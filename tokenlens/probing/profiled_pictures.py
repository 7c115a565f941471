"""The pictures that a profile was made of: one that was changed since is not taken for the same.

The manifest's `pictures` has a hash of every row's pictures. They are no part of the identity: a
run that a damaged picture stopped continues once that is mended, since it has no row yet.
"""

from collections.abc import Sequence
from contextlib import suppress

from tokenlens.errors import OutputError, SampleError
from tokenlens.samples.contents import picture_hashes
from tokenlens.samples.sample import Sample, quoted
from tokenlens.storage.files import hash_json
from tokenlens.storage.run_directory import FoundRun

KEY = "pictures"
"""The manifest's key; manifests of earlier versions do not have it."""


def hashes_of(samples: Sequence[Sample]) -> list[str]:
    """A hash of every sample's pictures; empty where one cannot be read, which its turn will say.

    Questions about one picture are read once where they follow each other.
    """
    hashes: list[str] = []
    last: object = None
    for sample in samples:
        if last is not None and sample.pictures == last:
            hashes.append(hashes[-1])
            continue
        last = sample.pictures
        found = ""
        with suppress(SampleError, OSError):
            found = hash_json(picture_hashes(sample))
        hashes.append(found)
    return hashes


def same_pictures(
    found: FoundRun, samples: Sequence[Sample], hashes: Sequence[str]
) -> dict[str, list[str]]:
    """What the manifest of a run that continues says of pictures: of rows as before, else `hashes`.

    Empty for a manifest of an earlier version. Raises `OutputError` for a row whose pictures were
    others.
    """
    before = found.manifest.get(KEY)
    if before is None:
        return {}
    missing = {row for rows in found.missing(len(samples)) for row in rows}
    kept = [
        now if row in missing else then
        for row, (then, now) in enumerate(zip(before, hashes, strict=True))
    ]
    if changed := first_changed(samples, kept, hashes):
        raise OutputError(
            f"{found.directory} holds a profile of other pictures: that of sample "
            f"{quoted(changed.id)} was changed since; choose another directory with --out, or "
            "delete it"
        )
    return {KEY: kept}


def first_changed(
    samples: Sequence[Sample], before: Sequence[str], now: Sequence[str]
) -> Sample | None:
    """The first sample whose pictures are others than before, by their hashes; None without one."""
    return next(
        (
            sample
            for sample, old, new in zip(samples, before, now, strict=True)
            if old and new and old != new
        ),
        None,
    )
