"""Notebooks run without an error and are stored as they run; so do the scripts beside them."""

import re
import runpy
import subprocess
import sys
from functools import cache

import nbformat
import pytest
from PIL import Image

from tests.support.repository import ROOT

EXAMPLES = ROOT / "examples"
RUNNER = runpy.run_path(str(EXAMPLES / "run_notebooks.py"))
SUBJECTS = ["choose_layers_and_prune", "compare_methods_honestly"]
SUBJECTS += ["first_look", "write_your_own_scorer"]
subjects = pytest.mark.parametrize("subject", SUBJECTS)
_MACHINE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|private|var|opt|usr)/")


@cache
def stored(subject):
    return nbformat.read(EXAMPLES / f"{subject}.ipynb", as_version=4)


def said(notebook):
    """What each code cell printed and showed as text."""
    return [
        [output.get("text") or output.get("data", {}).get("text/plain") for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def faults(notebook):
    """What no stored notebook may hold."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(str(output) for output in found)
    faults = [str(output) for output in found if output.output_type == "error"]
    faults += [output.text for output in found if output.get("name") == "stderr"]
    faults += _MACHINE.findall(text)
    faults += [f"times of {cell.id}" for cell in notebook.cells if "execution" in cell.metadata]
    return faults


def test_every_subject_has_a_notebook_a_script_and_a_line():
    notebooks = sorted(path.stem for path in EXAMPLES.glob("*.ipynb"))
    scripts = {path.stem for path in EXAMPLES.glob("*.py")} - {"run_notebooks"}
    assert notebooks == sorted(scripts) == SUBJECTS
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", index):
        assert (EXAMPLES / link).exists(), link
    assert all(f"]({subject}.{kind})" in index for subject in SUBJECTS for kind in ("py", "ipynb"))


@subjects
def test_a_stored_notebook_ran_from_top_to_bottom(subject):
    notebook = stored(subject)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert faults(notebook) == []
    assert (EXAMPLES / f"{subject}.ipynb").stat().st_size < 400_000


def test_faults_are_found():
    """The control."""
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    path = nbformat.v4.new_output("stream", name="stdout", text="wrote /home/me/x")
    bar = nbformat.v4.new_output("stream", name="stderr", text="100%")
    cell = nbformat.v4.new_code_cell("", outputs=[error, path, bar], metadata={"execution": {}})
    assert len(faults(nbformat.v4.new_notebook(cells=[cell]))) == 4


@pytest.mark.slow
@subjects
def test_what_is_stored_is_what_runs(subject):
    ran = RUNNER["execute"](EXAMPLES / f"{subject}.ipynb")
    assert faults(ran) == []
    assert said(ran) == said(stored(subject)), "run `make examples`, and look at what changed"


@pytest.mark.slow
@subjects
def test_the_scripts_run(subject, tmp_path):
    script = EXAMPLES / f"{subject}.py"
    lines = [line for line in script.read_text(encoding="utf-8").splitlines() if line]
    assert len(lines) <= 24
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_readmes_picture_is_the_notebooks():
    drawn = RUNNER["picture_of"](stored("choose_layers_and_prune"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (first, *_) = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", readme)
    assert ROOT / first == RUNNER["PICTURE"]
    assert RUNNER["PICTURE"].stat().st_size <= 150_000
    with Image.open(RUNNER["PICTURE"]) as picture:
        assert picture.size == drawn.size
        pairs = zip(drawn.convert("L").tobytes(), picture.convert("L").tobytes(), strict=True)
        assert sum(abs(one - other) for one, other in pairs) / drawn.width / drawn.height < 4
