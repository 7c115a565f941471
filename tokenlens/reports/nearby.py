"""Paths in a page: relative where possible, so that the home folder's name is not shown."""

import os
import re
from pathlib import Path


def near(text: str) -> str:
    """`text` with paths relative to the working directory, or with ~ for the home folder."""
    for folder, short in ((str(Path.cwd()), ""), (str(Path.home()), "~/")):
        if folder != "/":
            text = re.sub(rf"(?<![\w/.~-]){re.escape(folder)}/+", short, text)
    return text


def from_here(word: str) -> str:
    """A word of a command line, with a path below the working directory or home relative to here.

    `~` is not used here, since a shell does not expand it within quotes.
    """
    home = str(Path.home())
    option, equals, value = word.partition("=")
    if equals and option.startswith("-"):
        return f"{option}={from_here(value)}"
    kind, colon, place = word.partition(":")
    if colon and place.startswith("/"):
        return f"{kind}:{from_here(place)}"
    below_home = home != "/" and (word == home or word.startswith(home + "/"))
    below_here = word.startswith(str(Path.cwd()).rstrip("/") + "/")
    return os.path.relpath(word) if below_home or below_here else word
