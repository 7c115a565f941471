"""The whole recipe: `python -m tokenlens.data.training --out DIR` (the same command resumes)."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .export import export
from .families import FAMILIES
from .recipe import train


def main() -> None:
    """Train and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=list(FAMILIES), default="tiny-qwen2-vl")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, log and the model")
    parser.add_argument("--pace", type=float, default=1.0, help="share of the steps to make")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    family = FAMILIES[arguments.model]
    device = torch.device(arguments.device)
    model = train(family, arguments.out, device, pace=arguments.pace)
    export(family, model, arguments.out / family.name)


if __name__ == "__main__":
    main()
