"""What a run was made with: the versions that go into every manifest and report."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = (
    "tokenlens",
    "torch",
    "transformers",
    "accelerate",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "pillow",
    "tokenizers",
    "torchvision",
    "flash-attn",
)


def versions() -> dict[str, str]:
    """Version of Python and of each package that bears on the figures; absent ones are left out.

    >>> "torch" in versions()
    True
    """
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Operating system, processor and accelerators, for `tokenlens env`."""
    import torch

    accelerators = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "executable": sys.executable,
        "threads": str(torch.get_num_threads()),
        "accelerators": ", ".join(accelerators) or "none",
    }
