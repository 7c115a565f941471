"""Print how exact the probe and the engine are on every family: `python -m tests.exactness`.

The same comparisons as `tests/pruning/test_families_oracle.py`, with their largest differences
instead of a verdict. Written to `docs/results/exactness.md`.
"""

import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from tests.support.comparing import compare, keeping_all_is_bit_identical, probe_difference
from tests.support.families import FAMILIES, ONE, RAGGED, Case, case
from tests.support.family_plans import KEEP_ALL, named_plans, plan_for, sampled_plans

PAGE = Path(__file__).parent.parent / "docs" / "results" / "exactness.md"
HEADER = """# How exact the probe and the engine are, family by family

Random-weight models of six decoder layers, in true float64, with random pictures through their own
vision towers; a left-padded batch of three prompts, one of them with two pictures. The reference
reads every sample alone and at full length (`tests/references/full_length.py`). Printed by

    python -m tests.exactness

- **probe**: largest difference of any head's row from eager attention's (weights of 0 to 1).
- **keep everything**: whether prefill and eight decoded tokens are the same bits as without
  tokenlens, in float32 and float64, alone and in the batch.
- **drop, merge, recycle, bypass, freeze**: largest difference of any logit, after the prompt and
  eight tokens more, over early, late and repeated stages; those that merge or bypass often end with
  a drop.
- **combinations**: the same for sampled schedules in which every two options of a schedule meet.
- **scale**: the largest logit of the unpruned model, to compare the differences with.
- **control**: the difference when the reference keeps other tokens at one stage, where it is
  smallest; it must be far from the others.
- **choices**: decisions (candidates, selected, merged tokens of a stage) that differ, and how many
  stages were compared.
"""
COLUMNS = (
    *("family", "probe", "keep everything", "drop", "merge", "recycle", "bypass"),
    *("freeze", "combinations", "scale", "control", "choices"),
)


@dataclass
class Tally:
    """The largest difference so far, and how many stages were decided otherwise."""

    largest: float = 0.0
    stages: int = 0
    differing: int = 0

    def add(self, found: Case, stages: list[dict], scorer: dict, steps: int) -> None:
        result = compare(found, plan_for(found.model, stages, **scorer), steps=steps)
        self.largest = max(self.largest, result.logits)
        self.stages += len(stages) * len(found.alone)
        self.differing += len(result.choices)


def row(name: str) -> list[str]:
    """The table's row of a family."""
    found = case(name, RAGGED)
    kinds = ("drop", "merge", "recycle", "bypass", "freeze", "combinations")
    tallies = {kind: Tally() for kind in kinds}
    plans = named_plans(found.family.merges_from)
    for plan_name, stages in plans.items():
        tallies[plan_name.split()[0]].add(found, stages, {}, 8)
    for stages, scorer in sampled_plans(found.family.merges_from):
        tallies["combinations"].add(found, stages, scorer, 2)
    identical = all(
        keeping_all_is_bit_identical(case(name, sizes), plan_for(found.model, KEEP_ALL), dtype)
        for sizes in (ONE, RAGGED)
        for dtype in (torch.float32, torch.float64)
    )
    with torch.no_grad():
        scale = float(found.model(**found.inputs).logits[:, -1].abs().max())
    compared = sum(tally.stages for tally in tallies.values())
    return [
        name,
        f"{probe_difference(found):.1e}",
        "identical" if identical else "DIFFERS",
        *(f"{tally.largest:.1e}" for tally in tallies.values()),
        f"{scale:.0f}",
        f"{control(found):.1e}",
        f"{sum(tally.differing for tally in tallies.values())} of {compared}",
    ]


def control(found: Case) -> float:
    """The smallest difference that a reference with other tokens at one stage makes."""
    stages = named_plans(found.family.merges_from)["bypass three"]
    return min(
        compare(found, plan_for(found.model, stages), steps=0, worst_at=index).logits
        for index in range(len(stages))
    )


def main() -> None:
    """Print the table; with `--write` also into the page."""
    torch.set_num_threads(1)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    print(*lines, sep="\n", flush=True)
    for name in FAMILIES:
        lines.append("| " + " | ".join(row(name)) + " |")
        print(lines[-1], flush=True)
    made = (
        f"torch {version('torch')}, transformers {version('transformers')}, "
        f"Python {platform.python_version()}, {platform.machine()} CPU."
    )
    print(f"\n{made}")
    if "--write" in sys.argv[1:]:
        PAGE.write_text("\n".join([HEADER, *lines, "", made, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
