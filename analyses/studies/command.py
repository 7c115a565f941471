"""Shared parts of the studies' commands: their options, inputs and exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tokenlens.errors import OptionError, TokenlensError
from tokenlens.selection.solve import Budget, parse_budget
from tokenlens.storage.interruption import INTERRUPTED, end_quietly, orderly_end, pipe_was_closed

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.probing.profile import Profile
    from tokenlens.samples.dataset import Samples

BUDGETS = ("33%", "22%")


@dataclass(frozen=True)
class Setting:
    """Inputs of a study of chosen layers.

    Attributes:
        vlm: the model.
        profile: of the model on calibration samples; made where it was missing.
        held_out: the samples that choices are evaluated on.
        budgets: visual tokens entering a layer, mean over layers.
        stages: number of layers to choose.
        batch_size: samples per batch.
        out: directory for the rows.
    """

    vlm: VLM
    profile: Profile
    held_out: Samples
    budgets: tuple[Budget, ...]
    stages: int
    batch_size: int
    out: Path

    @classmethod
    def of(cls, options: argparse.Namespace, kind: str) -> Self:
        """Load what the options name; the default `out` is named after `kind` and the samples."""
        from tokenlens.models.loading import load
        from tokenlens.probing.profile import Profile
        from tokenlens.probing.profiling import profile_samples
        from tokenlens.samples.dataset import load_samples
        from tokenlens.storage.output_paths import ROOT, profile_directory, slug

        budgets = tuple(map(parse_budget, options.budget or BUDGETS))
        held_out = load_samples(options.data, "held-out", options.limit, options.task)
        vlm = load(options.model)
        if options.profile is None:
            calibration = load_samples(options.data, "calibration")
            directory = profile_directory(options.model, calibration.name)
            profile = profile_samples(vlm, calibration, directory, show_progress=True)
        else:
            profile = Profile(options.profile)
        name = f"{kind}-{held_out.name}-{len(held_out)}"
        return cls(
            vlm=vlm,
            profile=profile,
            held_out=held_out,
            budgets=budgets,
            stages=options.stages,
            batch_size=options.batch_size,
            out=options.out or ROOT / slug(options.model) / name,
        )


def arguments(module: str, description: str) -> argparse.ArgumentParser:
    """Parser of the options of a `Setting`; a study adds its own options."""
    parser = argparse.ArgumentParser(
        prog=f"python -m tokenlens.analyses.studies.{module}", description=description
    )
    parser.add_argument("--model", default="tiny-qwen2-vl", help="name, hub id or directory")
    parser.add_argument("--data", default="scenes", help="name, manifest or directory")
    parser.add_argument("--profile", type=Path, help="profile directory; made where missing")
    parser.add_argument("--stages", type=int, default=3, help="layers to choose")
    parser.add_argument("--budget", action="append", help="33%%, 48, …; may be repeated")
    parser.add_argument("--limit", type=int, help="held-out samples")
    parser.add_argument("--task", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path, help="directory for the rows")
    return parser


def check_layers(layers: Sequence[int], most: int) -> None:
    """Raise `OptionError` for a layer that the model does not have."""
    for layer in layers:
        if not 1 <= layer <= most:
            raise OptionError(f"--layer: got {layer}, expected a layer from 1 to {most}")


def run(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], str]) -> None:
    """Print the result of `work`, or an error in one line with exit code 2."""
    options = parser.parse_args()
    with orderly_end():
        try:
            text = work(options)
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except TokenlensError as error:
            parser.exit(2, f"{error}\n")
        except KeyboardInterrupt:
            parser.exit(INTERRUPTED, "interrupted; the same command continues\n")
        except (SystemExit, OSError) as error:
            if pipe_was_closed(error):
                end_quietly()
            raise
