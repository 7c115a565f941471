"""Figures in the notebook view of an object."""

from __future__ import annotations

import base64
import html
import io

from matplotlib.figure import Figure

_DOTS = 96
"""Dots per inch of a screen."""


def image_tag(figure: Figure, alt: str) -> str:
    """A figure as an HTML image element with its data inside."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{content}">'
