"""From what a user calls a model to the folder its files are in."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tokenlens.errors import ModelError
from tokenlens.models.aliases import ALIASES, BUNDLED

_OUTLINE = ("*.json", "*.jinja", "*.txt", "*.model")
_FILES = (*_OUTLINE, "*.safetensors")
_DUPLICATES = ["*/*", "consolidated*"]
"""Weights in other layouts, which some hub repositories hold beside the ones that are loaded."""
_TIMEOUT_S = 10.0
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_OFFER = f"give a local directory, or use the bundled {next(iter(BUNDLED))!r}"


@dataclass(frozen=True)
class Source:
    """A model found.

    Attributes:
        folder: where its files are.
        id: bundled name, hub id or absolute path of the directory.
        revision: commit of a hub model, else None.
    """

    folder: Path
    id: str
    revision: str | None = None


def find_source(name: str | Path, revision: str | None = None, *, weights: bool = True) -> Source:
    """Find a model by bundled name, alias, local directory or hub id, in this order.

    A hub model is downloaded (its weights too, if they are wanted), or taken from the local cache
    where the hub cannot be reached. Raises `ModelError` saying what was tried.
    """
    files = _FILES if weights else _OUTLINE
    text = str(name) if name else ""
    place = Path(name).expanduser()
    local = text in BUNDLED or (text and text not in ALIASES and place.is_dir())
    if local and revision is not None:
        raise ModelError(
            f"model {text} is local and has no revisions: leave {revision!r} out, or give a hub id"
        )
    if text in BUNDLED:
        return Source(Path(str(resources.files("tokenlens.data") / text)), text)
    if local:
        return Source(place.resolve(), str(place.resolve()))
    hub_id = ALIASES.get(text, text)
    if isinstance(name, str) and _HUB_ID.fullmatch(hub_id) and text[0] not in ".~/":
        folder = _hub_folder(hub_id, revision, text, files)
        return Source(folder, hub_id, folder.name)
    if isinstance(name, Path) or "/" in text or text.startswith((".", "~")):
        found = "is a file" if place.is_file() else "does not exist"
        raise ModelError(f"model directory {text} {found}; {_OFFER}")
    raise ModelError(
        f"unknown model {text!r}{_nearest(text)}; expected a bundled model ({', '.join(BUNDLED)}), "
        "an alias (see `tokenlens models`), a hub id (owner/name) or a local directory"
    )


def _hub_folder(hub_id: str, revision: str | None, asked: str, files: Sequence[str]) -> Path:
    """The folder of a hub model's files in the local cache, its name the commit."""
    name = hub_id if asked == hub_id else f"{asked!r} ({hub_id})"
    try:
        # Asked for apart from the download, which has no time limit of its own.
        commit = HfApi().model_info(hub_id, revision=revision, timeout=_TIMEOUT_S).sha
        return _download(hub_id, commit, files)
    except RevisionNotFoundError as error:
        raise ModelError(f"the hub's model {name} has no revision {revision!r}") from error
    except GatedRepoError as error:
        raise ModelError(
            f"the hub's model {name} is gated: accept its terms there and log in with "
            f"`hf auth login`, or {_OFFER}"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"no model {name}: neither a directory here nor on the hub, unless private"
            f"{_nearest(hub_id)}; {_OFFER}"
        ) from error
    except HFValidationError as error:
        raise ModelError(f"{name} is neither a directory nor a hub id; {_OFFER}") from error
    except (HTTPError, OSError) as error:
        return _cached_folder(hub_id, revision, name, files, error)


def _cached_folder(
    hub_id: str, revision: str | None, name: str, files: Sequence[str], reason: Exception
) -> Path:
    try:
        return _download(hub_id, revision, files, local_files_only=True)
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"cannot fetch {name} from the hub ({type(reason).__name__}: "
            f"{' '.join(str(reason).split())[:120]}), and neither a directory of that name nor the "
            f"local cache holds it; {_OFFER}"
        ) from error


def _download(
    hub_id: str, revision: str | None, files: Sequence[str], local_files_only: bool = False
) -> Path:
    return Path(
        snapshot_download(
            hub_id,
            revision=revision,
            allow_patterns=list(files),
            ignore_patterns=_DUPLICATES,
            local_files_only=local_files_only,
        )
    )


def _nearest(name: str) -> str:
    known = {known.lower(): known for known in (*BUNDLED, *ALIASES, *ALIASES.values())}
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(repr(known[key]) for key in near)}?)" if near else ""
