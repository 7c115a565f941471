"""Look-up of a picture by the address that a profile or a result has stored."""

import json
from pathlib import Path

from tokenlens.samples.benchmarks.tables import TablePicture
from tokenlens.samples.benchmarks.tsv import TsvPicture
from tokenlens.samples.pictures import StoredPicture

_KINDS: dict[str, type[TablePicture] | type[TsvPicture]] = {
    "table": TablePicture,
    "tsv": TsvPicture,
}


def find_picture(address: str) -> Path | StoredPicture:
    """The picture at a path or at the address of a picture kept inside another file.

    >>> str(find_picture(TablePicture.at("lmms-lab/POPE", "test", None, "image", 7).address))
    'lmms-lab/POPE test row 7'
    """
    kind, _, parts = address.partition(":")
    if kind in _KINDS and parts.startswith("["):
        return _KINDS[kind].at(*json.loads(parts))
    return Path(address)
