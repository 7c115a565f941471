"""What is declared suffices: every family's own processor is made without anything else."""

import subprocess
import sys

import pytest

from tests.support.repository import ROOT

_PROGRAM = '''
import importlib.metadata as metadata, re, sys
from importlib.machinery import PathFinder

def closure(name):
    """A distribution with all that it requires, extras left out."""
    found, left = set(), [name]
    while left:
        one = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if one in found:
            continue
        found.add(one)
        try:
            required = metadata.requires(one) or []
        except metadata.PackageNotFoundError:
            continue  # of another platform
        left += [re.match(r"[\\w.-]+", r)[0] for r in required if "extra ==" not in r]
    return found

declared = closure("tokenlens") - set(sys.argv[1].split(","))
blocked = {
    module for module, names in metadata.packages_distributions().items()
    if not any(re.sub(r"[-_.]+", "-", name).lower() in declared for name in names)
}

class Declared:
    """Finds what is declared; other packages are as if they were not installed."""
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            return None
        return PathFinder.find_spec(name, path, target)

    invalidate_caches = PathFinder.invalidate_caches
    find_distributions = PathFinder.find_distributions

sys.meta_path[sys.meta_path.index(PathFinder)] = Declared
sys.path.insert(0, ".")
from tests.support.layout_families import FAMILIES

for name, family in FAMILIES.items():
    try:
        family.build()
    except ImportError as error:
        print(name, str(error).split(chr(10))[-1])
'''


def undeclared(*left_out: str) -> str:
    """The families whose processors cannot be made where only declared packages are found."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, ",".join(left_out)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_familys_processor_is_made_of_declared_packages() -> None:
    assert undeclared() == ""


@pytest.mark.slow
def test_a_package_that_is_not_declared_is_missed() -> None:
    assert "smolvlm" in undeclared("num2words")
