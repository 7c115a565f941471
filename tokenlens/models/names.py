"""Resolution of model names, without the network and without torch."""

import difflib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from tokenlens.errors import ModelError
from tokenlens.models.aliases import ALIASES, BUNDLED
from tokenlens.models.composed import COMPOSED, find_composed

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
OFFER = f"give a local directory, or use the bundled {next(iter(BUNDLED))!r}"
"""How a refusal of a name ends."""


@dataclass(frozen=True)
class Source:
    """A model that was found.

    Attributes:
        folder: directory of its files.
        id: bundled name, hub id or absolute path of the directory.
        revision: commit of a hub model, else None.
    """

    folder: Path
    id: str
    revision: str | None = None


def resolve(name: str | Path, revision: str | None = None) -> Source | str:
    """A model of this machine, or else the hub id that `name` stands for.

    Of this machine are bundled and composed models and local directories. Raises `ModelError` for a
    name that can be none of these, a composed model that is not set up, a path that is no
    directory, and a revision of a local model.

    >>> resolve("llava-1.5")
    'llava-hf/llava-1.5-7b-hf'
    """
    text = str(name) if name else ""
    place = Path(name).expanduser()
    named = text in BUNDLED or text in COMPOSED
    local = named or (text and text not in ALIASES and place.is_dir())
    if local and revision is not None:
        raise ModelError(
            f"model {text} is local and has no revisions: leave {revision!r} out, or give a hub id"
        )
    if text in BUNDLED:
        return Source(Path(str(resources.files("tokenlens.data") / text)), text)
    if text in COMPOSED:
        return Source(find_composed(text), text)
    if local:
        return Source(place.resolve(), str(place.resolve()))
    hub_id = ALIASES.get(text, text)
    if isinstance(name, str) and _HUB_ID.fullmatch(hub_id) and text[0] not in ".~/":
        return hub_id
    if isinstance(name, Path) or "/" in text or text.startswith((".", "~")):
        found = "is a file" if place.is_file() else "does not exist"
        raise ModelError(f"model directory {text} {found}; {OFFER}")
    raise ModelError(
        f"unknown model {text!r}{nearest(text)}; expected a bundled model "
        f"({', '.join((*BUNDLED, *COMPOSED))}), "
        "an alias (see `tokenlens models`), a hub id (owner/name) or a local directory"
    )


def nearest(name: str) -> str:
    """The names similar to `name`, as a question in brackets; empty where there are none."""
    known = {known.lower(): known for known in (*BUNDLED, *COMPOSED, *ALIASES, *ALIASES.values())}
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(repr(known[key]) for key in near)}?)" if near else ""
