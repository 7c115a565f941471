"""Versions of Python and packages, written into every manifest and report."""

import os
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version

from huggingface_hub import constants

_NAME, _EXTRA = re.compile(r"[\w.-]+"), re.compile(r"extra == ['\"]([\w-]+)['\"]")
_PACKAGES = (
    "tokenlens",
    "torch",
    "transformers",
    "accelerate",
    "numpy",
    "pandas",
    "pyarrow",
    "pillow",
    "tokenizers",
    "torchvision",
    "flash-attn",
)


def versions() -> dict[str, str]:
    """Version of Python and of each package that affects the figures; absent ones are left out.

    >>> "torch" in versions()
    True
    """
    return dict(_versions())


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    """Looked up once: a run of many small parts asks for each of them."""
    found = [("python", platform.python_version())]
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return tuple(found)


def extras() -> dict[str, str]:
    """Versions of the optional packages that are installed, as tokenlens's own extras name them."""
    found = {}
    for requirement in requires("tokenlens") or ():
        name, extra = _NAME.match(requirement), _EXTRA.search(requirement)
        if name is None or extra is None or extra[1] == "dev":
            continue
        try:
            found[name[0]] = version(name[0])
        except PackageNotFoundError:
            continue
    return found


def surroundings() -> dict[str, str]:
    """Where files of the hub come from, and how many threads are asked for."""
    return {
        "huggingface_hub": version("huggingface_hub"),
        "hub": "offline" if constants.is_offline_mode() else constants.ENDPOINT,
        "hub_cache": constants.HF_HUB_CACHE,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
    }


def machine() -> dict[str, str]:
    """Operating system, processors and accelerators, for `tokenlens env`.

    Read from the system and its drivers, since torch takes seconds to import.

    >>> sorted(machine())
    ['accelerators', 'executable', 'platform', 'processors']
    """
    return {
        "platform": platform.platform(),
        "executable": sys.executable,
        "processors": str(_processors()),
        "accelerators": ", ".join(_accelerators()) or "none found",
    }


def _processors() -> int:
    """Processors that this process may use."""
    known = hasattr(os, "sched_getaffinity")  # not on macOS
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def _accelerators() -> list[str]:
    """Names of the NVIDIA cards, or of an Apple chip."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return [platform.processor() or "Apple"]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        found = subprocess.run(  # noqa: S603 - a fixed question to the driver's own program
            asked, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return found.stdout.splitlines()
