"""Files in repositories of the Hugging Face hub: fetched into its cache, and put there."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Self

from tokenlens.errors import HubError
from tokenlens.wording.printable import shown

CARD = "README.md"
"""The file that the hub shows as a repository's card."""
_PREFIX = "hub:"
_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
_TIMEOUT_S = 10.0


class Pushed(NamedTuple):
    """A commit on the hub.

    Attributes:
        repo_id: the repository.
        commit: its hash, which is a revision that never changes.
        url: the commit's page.
    """

    repo_id: str
    commit: str
    url: str


class HubPlace(NamedTuple):
    """A repository of the hub, "USER/NAME", at a revision (None: the newest of its main branch)."""

    repo_id: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """A place written as "hub:USER/NAME[@REVISION]"; None for any other text, such as a path.

        >>> HubPlace.parse("hub:me/plans@v1"), HubPlace.parse("out.json")
        (HubPlace(repo_id='me/plans', revision='v1'), None)
        """
        if not text.startswith(_PREFIX):
            return None
        repo_id, _, revision = text.removeprefix(_PREFIX).partition("@")
        return cls(repo_id, revision or None)

    def __str__(self) -> str:
        return f"{_PREFIX}{self.repo_id}" + (f"@{self.revision}" if self.revision else "")

    def check(self) -> None:
        """Raise `HubError` where the repository's name can be none, before the hub is asked."""
        if not _NAME.fullmatch(self.repo_id):
            raise HubError(
                f"{shown(self.repo_id)} is no repository of the hub, expected USER/NAME such as "
                "me/qwen2-vl-schedule"
            )

    def fetch(self, name: str, *, token: str | None = None) -> Path:
        """The path of a file of the repository in the hub's cache, downloaded where it is newer.

        Raises `HubError` where there is no such file, or neither network nor cache has it.
        """
        from huggingface_hub import hf_hub_download

        with self._refused(name):
            return Path(
                hf_hub_download(
                    self.repo_id,
                    name,
                    revision=self.revision,
                    token=token,
                    etag_timeout=_TIMEOUT_S,
                    library_name="tokenlens",
                    library_version=version("tokenlens"),
                )
            )

    def push(
        self,
        files: Mapping[str, str],
        message: str,
        *,
        private: bool | None = None,
        token: str | None = None,
    ) -> Pushed:
        """Put files, by name, into the repository in one commit; made where there is none.

        `private` is for one that is made. Raises `HubError` where the hub does not take them.
        """
        from huggingface_hub import CommitOperationAdd, HfApi

        hub = HfApi(token=token, library_name="tokenlens", library_version=version("tokenlens"))
        with self._refused(CARD):
            hub.create_repo(self.repo_id, private=private, exist_ok=True)
            done = hub.create_commit(
                self.repo_id,
                [CommitOperationAdd(name, text.encode()) for name, text in files.items()],
                commit_message=message,
                revision=self.revision,
            )
        return Pushed(self.repo_id, done.oid, done.commit_url)

    @contextmanager
    def _refused(self, name: str) -> Iterator[None]:
        """Raise what the hub says against it as a `HubError`."""
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

        self.check()
        try:
            yield
        except (HTTPError, OSError, ValueError) as error:
            raise HubError(f"{self}{_reason(error, name)}") from error


def _reason(error: Exception, name: str) -> str:
    """What the hub, or the way to it, says against a file, and what to do."""
    from huggingface_hub import errors

    known = {
        errors.RevisionNotFoundError: " has no such revision; name a branch, tag or commit of it",
        errors.GatedRepoError: f" is gated: accept its terms on the hub, and {_LOGIN}",
        errors.RepositoryNotFoundError: f" is not on the hub, unless it is private: {_LOGIN}",
        errors.RemoteEntryNotFoundError: f" has no {name}; `tokenlens share` puts a schedule there",
        errors.HFValidationError: f": {_line(error)}; expected hub:USER/NAME[@REVISION]",
        errors.LocalTokenNotFoundError: f": there is no token to show the hub: {_LOGIN}",
    }
    for kind, text in known.items():
        if isinstance(error, kind):
            return text
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return f": {_line(error)}; give it another value"  # in the card's header, by the hub
    if not isinstance(error, errors.HfHubHTTPError):
        cause = f"{type(error).__name__}: {_line(error)}"
        return f": the hub cannot be reached ({cause}); try again with a network"
    status = error.response.status_code
    if status in (401, 403):
        return f": the hub refuses ({status}): {_LOGIN}, with a token that may do this"
    return f": the hub answers {status} ({_line(error)}); try again later"


def _line(error: Exception) -> str:
    """What an error of the hub's package says, cut to a short line."""
    return " ".join(str(error).split())[:120]
