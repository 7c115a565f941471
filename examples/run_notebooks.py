"""Execute the notebooks of this folder and store them: `make examples`, or some by name."""

import os
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

HERE = Path(__file__).resolve().parent
PICTURE = HERE.parent / "docs" / "results" / "figures" / "first-look.webp"
"""README's first picture: the outputs tagged `readme-picture`, below each other."""
_QUALITY = 90


def execute(path: Path) -> NotebookNode:
    """A notebook as it is after all its cells ran in a folder of its own; it stops at an error."""
    notebook = nbformat.read(path, as_version=4)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # they say how fast this machine is
    with TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources=resources, record_timing=False
        ).execute()
    return nbformat.from_dict(_named_alike(notebook))


def _named_alike(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what differs from run to run: widgets' ids, the kernel's version."""
    text = nbformat.writes(notebook)
    for number, name in enumerate(dict.fromkeys(re.findall(r"\b[0-9a-f]{32}\b", text))):
        text = text.replace(name, f"{number:032x}")
    named = nbformat.reads(text, as_version=4)
    named.metadata["language_info"] = {"name": "python"}
    return named


def shrink(notebook: NotebookNode) -> None:
    """Make the pictures that are shown smaller, in place."""
    for data in _pictures(notebook):
        data["image/png"] = _smaller(data["image/png"])
        data.pop("image/jpeg", None)


def _pictures(notebook: NotebookNode) -> Iterator[NotebookNode]:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                yield output.data


def _smaller(content: str) -> str:
    """The same PNG on white, in the 256 colours that suit it best: a quarter of the size."""
    picture, buffer = Image.open(BytesIO(b64decode(content))).convert("RGBA"), BytesIO()
    opaque = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    few = opaque.convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return b64encode(buffer.getvalue()).decode()


def picture_of(notebook: NotebookNode) -> Image.Image | None:
    """The outputs tagged `readme-picture`, below each other; None where there are none."""
    parts = [
        Image.open(BytesIO(b64decode(output.data["image/png"]))).convert("RGB")
        for cell in notebook.cells
        if "readme-picture" in cell.metadata.get("tags", [])
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    if not parts:
        return None
    size = (max(part.width for part in parts), sum(part.height for part in parts))
    sheet = Image.new("RGB", size, "white")
    for number, part in enumerate(parts):
        sheet.paste(part, (0, sum(above.height for above in parts[:number])))
    return sheet


def main(names: Sequence[str]) -> None:
    """Execute notebooks in place, all where none is named, and store README's picture."""
    for path in [HERE / name for name in names] or sorted(HERE.glob("*.ipynb")):
        notebook = execute(path)
        if picture := picture_of(notebook):
            picture.save(PICTURE, quality=_QUALITY)
        shrink(notebook)
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
