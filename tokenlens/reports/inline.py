"""What a page holds inside itself: its own files, allowed by their hashes, and data as JSON."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from PIL.Image import Image, Resampling

from tokenlens.analyses.drawing.token_raster import shrunk
from tokenlens.reports.overlays import data_uri
from tokenlens.wording.printable import printable

_LONGEST, _SHORTEST = 1280, 320
"""Pixels along the longer side of a photograph, at best and at worst."""


@dataclass(frozen=True)
class Inline:
    """Text that stands between the tags of one element, and what allows it.

    Attributes:
        text: script or style.
        source: the content security policy's word for exactly this text.
    """

    text: Markup
    source: str


def inline(text: str) -> Inline:
    """Our own script or style, to be allowed by its hash alone.

    >>> inline("").source
    'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Inline(Markup(text), f"sha256-{digest}")  # noqa: S704 - our own files


def assets(templates: Environment, *names: str, before: str = "") -> Inline:
    """Files of the page, one after another in one element, after `before`."""
    loader = templates.loader
    texts = [] if loader is None else [loader.get_source(templates, name)[0] for name in names]
    return inline(before + "".join(texts))


def embedded(data: Mapping[str, Any]) -> Markup:
    r"""JSON that may stand inside a script element, whatever its texts are.

    Texts come out printable: a control character is its escape.

    >>> print(embedded({"a": "</script>"}))
    {"a":"\u003c/script\u003e"}
    >>> json.loads(embedded({"a": ["\x1b[2J"]}))["a"][0] == r"\u001b[2J"
    True
    """
    text = json.dumps(_plain(data), separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - escaped right here


def _plain(value: Any) -> Any:
    """Every text in a JSON value printable."""
    if isinstance(value, str):
        return value if value.isascii() and value.isprintable() else printable(value, lines=True)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value


def photograph(image: Image, most: int, *, least_side: int = 720) -> str:
    """Data URI of a JPEG of at most `most` bytes, as large as that allows.

    A photograph with a longer side of less than `least_side` pixels is enlarged to it.
    """
    longest, side = max(image.size), _LONGEST
    if longest < least_side:
        width, height = (max(1, round(edge * least_side / longest)) for edge in image.size)
        image = image.resize((width, height), Resampling.BICUBIC)
    while True:
        buffer, image = io.BytesIO(), shrunk(image, side)
        image.save(buffer, "JPEG", quality=82, optimize=True)
        if buffer.tell() <= most or side <= _SHORTEST:
            return data_uri("image/jpeg", buffer.getvalue())
        side = max(_SHORTEST, side * 3 // 4)
