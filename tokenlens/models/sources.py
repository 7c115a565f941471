"""Look-up of a model's files by its name, downloaded where they are on the hub."""

from collections.abc import Sequence
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
from tokenlens.models.names import OFFER, Source, nearest, resolve

_OUTLINE = ("*.json", "*.jinja", "*.txt", "*.model")
_FILES = (*_OUTLINE, "*.safetensors")
_DUPLICATES = ["*/*", "consolidated*"]
"""Weights in other layouts, which some hub repositories hold beside the ones that are loaded."""
_TIMEOUT_S = 10.0


def find_source(name: str | Path, revision: str | None = None, *, weights: bool = True) -> Source:
    """Find a model by bundled name, alias, local directory or hub id, in this order.

    A hub model is downloaded (with its weights if `weights` is true), or taken from the local cache
    where the hub cannot be reached. Raises `ModelError`, which says what was tried.
    """
    found = resolve(name, revision)
    if isinstance(found, Source):
        return found
    folder = _hub_folder(found, revision, str(name), _FILES if weights else _OUTLINE)
    return Source(folder, found, folder.name)


def _hub_folder(hub_id: str, revision: str | None, asked: str, files: Sequence[str]) -> Path:
    """The folder of a hub model's files in the local cache, named after the commit."""
    name = hub_id if asked == hub_id else f"{asked!r} ({hub_id})"
    try:
        # A request apart from the download, which has no time limit of its own.
        commit = HfApi().model_info(hub_id, revision=revision, timeout=_TIMEOUT_S).sha
        return _download(hub_id, commit, files)
    except RevisionNotFoundError as error:
        raise ModelError(f"the hub's model {name} has no revision {revision!r}") from error
    except GatedRepoError as error:
        raise ModelError(
            f"the hub's model {name} is gated: accept its terms there and log in with "
            f"`hf auth login`, or {OFFER}"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"no model {name}: neither a directory here nor on the hub, unless private"
            f"{nearest(hub_id)}; {OFFER}"
        ) from error
    except HFValidationError as error:
        raise ModelError(f"{name} is neither a directory nor a hub id; {OFFER}") from error
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
            f"local cache holds it; {OFFER}"
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
