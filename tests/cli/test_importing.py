"""Nothing looks for garbage while what takes long is imported, nor when the program ends."""

import gc
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tokenlens.cli.importing import importing

_PROGRAM = """
import atexit, gc, sys
class Watch:
    def find_spec(self, name, path, target=None):
        if name in ("torch", "torch._dynamo", "transformers.modeling_utils"):
            print(name, "looking" if gc.isenabled() else "in peace", file=sys.stderr)
def at_the_end():
    left = len(gc.get_objects())
    print("enabled" if gc.isenabled() else "disabled", left < 5000, file=sys.stderr)
sys.meta_path.insert(0, Watch())
atexit.register(at_the_end)
from tokenlens.cli.main import main
sys.argv = ["tokenlens", *sys.argv[1:]]
main()
"""


@pytest.fixture
def collecting() -> Iterator[None]:
    """Python looks for garbage, as it does unless it is told not to; so it does afterwards."""
    gc.enable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collecting")
def test_looking_for_garbage_goes_on_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_imported_before.py").write_text("import gc\nlooked = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    frozen = gc.get_freeze_count()
    with importing():
        found = import_module("never_imported_before")
    assert (found.looked, gc.isenabled()) == (False, True)
    assert gc.get_freeze_count() > frozen
    gc.unfreeze()
    with pytest.raises(ModuleNotFoundError), importing():
        import_module("there_is_none_of_this_name")
    assert gc.isenabled()
    gc.disable()
    with importing():
        pass
    assert (gc.isenabled(), gc.get_freeze_count()) == (False, 0)


def test_a_command_imports_in_peace_and_ends_at_once(tmp_path: Path) -> None:
    """What is left to look through at the end is what the last lines made."""
    asked = ["cost", "--method", "fastv"]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *asked], cwd=tmp_path, capture_output=True, text=True,
        check=True, timeout=300,
    )  # fmt: skip
    modules = ("torch", "torch._dynamo", "transformers.modeling_utils")
    assert set(done.stderr.splitlines()) == {
        "enabled True",
        *(f"{module} in peace" for module in modules),
    }
