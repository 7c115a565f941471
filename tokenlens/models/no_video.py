"""Placeholder for a processor's video part where torchvision is not installed."""

from typing import Any, NoReturn

from tokenlens.errors import ModelError


class NoVideoError(ModelError, AttributeError):
    """A video cannot be read, or a setting for videos is missing."""


class NoVideo:
    """Raises `NoVideoError`, which names the missing package, when a video or a setting is used.

    Attributes:
        num_frames: None, as for a processor without a setting of its own; SmolVLM reads it before
            it checks for videos.
        fps: likewise.
    """

    num_frames = None
    fps = None

    def __init__(self, family: str, *, takes_videos: bool) -> None:
        self._family = family
        self._takes_videos = takes_videos

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse a video."""
        raise self._refusal()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # copying and printing read such names
            raise AttributeError(name)
        raise self._refusal()

    def _refusal(self) -> "NoVideoError":
        if not self._takes_videos:
            return NoVideoError(f"{self._family} takes no videos; give it pictures")
        return NoVideoError(
            f"{self._family} needs torchvision to read a video, and it is not installed; install "
            "the torchvision of your torch, or give the video's frames as pictures"
        )
