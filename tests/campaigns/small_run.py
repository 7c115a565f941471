"""A small finished run of every command, and commands run in this process."""

import io
import json
import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.cli.main import main

LAYERS = 6
_QUESTIONS = ("what colour is the circle ?", "how many are there ?", "where is the star ?")


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def run(folder: Path, *arguments: object) -> Outcome:
    """Run `tokenlens …` in `folder` through the entry point that users have."""
    warnings.onceregistry.clear()  # type: ignore[attr-defined]  # each command is a new process
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["tokenlens", *map(str, arguments)]
    code: object = 0
    try:
        with chdir(folder), redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    assert isinstance(code, int)
    return Outcome(code, out.getvalue(), err.getvalue())


def run_to_exit(folder: Path, *arguments: str) -> None:
    """Run `tokenlens …` in `folder` and end this process as the command ends."""
    os.chdir(folder)
    sys.argv = ["tokenlens", *arguments]
    main()


def write_inputs(folder: Path, samples: int) -> None:
    """A random model of six layers in `folder`/model, and questions in `folder`/data."""
    os.environ["COLUMNS"] = "200"
    save_model_directory(folder / "model", tiny_qwen2_vl(LAYERS))
    data = folder / "data"
    data.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (samples, 24, 24, 3), dtype=np.uint8)
    lines = []
    for index in range(samples):
        Image.fromarray(pixels[index]).save(data / f"{index}.png")
        line = {
            "id": f"sample-{index}",
            "image": f"{index}.png",
            "question": _QUESTIONS[index % len(_QUESTIONS)],
            "answer": "red",
            "task": ("colour", "count")[index % 2],
            "boxes": [[0, 0, 8 + index % 12, 8]],
        }
        lines.append(json.dumps(line))
    (data / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def finish(folder: Path, steps: Sequence[Sequence[str]]) -> None:
    """Run commands that must end well."""
    for step in steps:
        ended = run(folder, *step)
        if ended.code:
            raise RuntimeError(f"tokenlens {' '.join(step)}: {ended.err}")


def steady_rows(shard: Path) -> pd.DataFrame:
    """A shard's rows without the times they took."""
    return pd.read_parquet(shard).drop(columns=["prefill_s", "decode_s"], errors="ignore")


def rows_below(folder: Path) -> dict[str, str]:
    """All rows of finished commands by their folder, every digit, without the times they took.

    Kept answers are in files whose names are drawn: they are taken in the order of their keys.
    """
    found = {}
    for inner in sorted({path.parent for path in folder.rglob("*.parquet")}):
        shards = [steady_rows(path) for path in sorted(inner.glob("*.parquet"))]
        rows = [row for shard in shards for row in shard.to_dict("records")]
        if all("key" in row for row in rows):
            rows.sort(key=lambda row: str(row["key"]))
        with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
            found[inner.relative_to(folder).as_posix()] = repr(rows)
    return found


def fresh(source: Path, target: Path) -> Path:
    """`target` as a copy of `source`, whatever it was before."""
    if target.exists():
        shutil.rmtree(target)
    return Path(shutil.copytree(source, target))
