"""What stands where a processor's video half would, while torchvision is not installed."""

from typing import Any, NoReturn

from tokenlens.errors import ModelError


class NoVideoError(ModelError, AttributeError):
    """A video that cannot be read; also what asking for a setting that is not there raises."""


class NoVideo:
    """It says in one line what is missing as soon as a video, or a setting for one, is asked of it.

    Attributes:
        num_frames: None, as for a processor without a setting of its own; SmolVLM asks for it
            before it looks for videos.
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
        if name.startswith("_"):  # what copying and printing look for
            raise AttributeError(name)
        raise self._refusal()

    def _refusal(self) -> "NoVideoError":
        if not self._takes_videos:
            return NoVideoError(f"{self._family} takes no videos; give it pictures")
        return NoVideoError(
            f"{self._family} needs torchvision to read a video, and it is not installed; install "
            "the torchvision of your torch, or give the video's frames as pictures"
        )
