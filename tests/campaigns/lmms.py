"""Ask both bundled models through lmms-eval's own command line and by `tokenlens run`.

    python -m tests.campaigns.lmms --python .venv-lmms/bin/python --limit 40

Each model answers held-out scenes without a schedule, with one that keeps every token, and with one
that `tokenlens select-layers` writes. Answers through the plugin `tokenlens`, and by lmms-eval's
own LLaVA through `tokenlens_wrapped`, must be those of `tokenlens run`, sample by sample. Exit code
1 where one is another, or where the schedule changes no answer: then equal ones would say nothing.
`make lmms` prepares the environment.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tests.campaigns.small_run import finish
from tests.support.repository import ROOT
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.schedule import Schedule

TASK = ROOT / "examples" / "harnesses"
PLUGINS = {
    "tiny-qwen2-vl": {"tokenlens": ""},
    "tiny-llava": {
        "tokenlens": "",
        "tokenlens_wrapped": ",device_map=cpu,dtype=float32",
    },
}
"""Plugins that each model is asked through, and their arguments. lmms-eval's own model of Qwen2-VL
needs torchvision, which is built for one build of torch."""
NONE, EVERYTHING, PRUNED = "none", "everything.json", "pruned.json"


def call(command: Sequence[str], folder: Path) -> str:
    """What a command prints; it must end well."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    ended = subprocess.run(
        command, cwd=folder, env={**os.environ, **offline}, capture_output=True, text=True
    )
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{ended.stdout}\n{ended.stderr}")
    return ended.stdout + ended.stderr


def ask_lmms(python: str, folder: Path, plugin: str, told: str, schedule: str) -> list[str]:
    """The answers of `lmms_eval --model PLUGIN`, in the order of the rows.

    Its exit code is 0 after an error too, so that the file of answers must be there.
    """
    told += f",schedule={schedule}"
    if schedule != NONE:
        digest = hashlib.sha256((folder / schedule).read_bytes()).hexdigest()
        told += f",schedule_hash=sha256:{digest}"
    out = Path(tempfile.mkdtemp(dir=folder))
    words = [python, "-m", "lmms_eval", "--model", plugin, "--model_args", told]
    words += ["--tasks", "scenes", "--include_path", str(TASK), "--device", "cpu"]
    words += ["--batch_size", "1" if plugin.endswith("wrapped") else "8"]
    said = call([*words, "--log_samples", "--output_path", str(out)], folder)
    files = list(out.rglob("*_samples_scenes.jsonl"))
    if len(files) != 1:
        raise RuntimeError(f"lmms-eval wrote no answers:\n{said[-3000:]}")
    lines = [json.loads(line) for line in files[0].read_text(encoding="utf-8").splitlines()]
    return [line["filtered_resps"] for line in sorted(lines, key=lambda line: line["doc_id"])]


def ask_tokenlens(folder: Path, model: str, schedule: str, limit: int) -> tuple[list[str], ...]:
    """The answers of `tokenlens run`: of the unpruned model, and under the schedule."""
    out = f"{model}-{schedule.removesuffix('.json')}"
    words = ("run", "--schedule", schedule, "--limit", str(limit), "--out", out)
    finish(folder, [(*words, "--model", model, "--data", "scenes")])
    arms = Comparison.load(folder / out).arms.values()
    return tuple(arm.rows["prediction"].tolist() for arm in arms)


def write_schedules(folder: Path, model: str) -> None:
    """A schedule chosen by a profile, and the same with every token kept."""
    profile = f"profile-{model}"
    finish(
        folder,
        [
            ("profile", "--model", model, "--limit", "24", "--out", profile),
            ("select-layers", profile, "--budget", "22%", "--out", PRUNED),
        ],
    )
    pruned = Schedule.load(folder / PRUNED).as_json()
    everything = [{**stage, "keep": 1.0} for stage in pruned["stages"]]
    Schedule(**{**pruned, "stages": everything}).save(folder / EVERYTHING)


def compared(python: str, folder: Path, model: str, limit: int) -> pd.DataFrame:
    """For every plugin and schedule: samples, those answered alike, and as by the full model."""
    write_schedules(folder, model)
    unpruned, everything = ask_tokenlens(folder, model, EVERYTHING, limit)
    _, pruned = ask_tokenlens(folder, model, PRUNED, limit)
    rows = []
    for plugin, told in PLUGINS[model].items():
        for schedule, wanted in ((NONE, unpruned), (EVERYTHING, everything), (PRUNED, pruned)):
            found = ask_lmms(python, folder, plugin, f"pretrained={model}{told}", schedule)
            rows.append(
                {
                    "plugin": plugin,
                    "model": model,
                    "schedule": schedule.removesuffix(".json"),
                    "samples": len(wanted),
                    "same as tokenlens run": _alike(found, wanted),
                    "same as unpruned": _alike(found, unpruned),
                }
            )
    return pd.DataFrame(rows)


def _alike(some: Sequence[str], others: Sequence[str]) -> int:
    return sum(a == b.strip() for a, b in zip(some, others, strict=True))


def main() -> int:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="of the environment of lmms-eval")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--model", action="append", choices=PLUGINS, help="by default both")
    options = parser.parse_args()
    python = str(Path(options.python).absolute())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        call([python, str(TASK / "scenes.py"), str(options.limit)], folder)
        tables = [
            compared(python, folder, model, options.limit) for model in options.model or PLUGINS
        ]
    table = pd.concat(tables, ignore_index=True)
    sys.stdout.write(table.to_string(index=False) + "\n")
    pruned = table[table["schedule"] == "pruned"]
    equal = (table["same as tokenlens run"] == table["samples"]).all()
    told_apart = (pruned["same as unpruned"] < pruned["samples"]).all()
    return int(not (equal and told_apart))


if __name__ == "__main__":
    sys.exit(main())
