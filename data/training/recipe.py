"""The recipe from first to last: the tower, the words, and three depths of the decoder."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Qwen2VLForConditionalGeneration

from .answers import Stage, train_answers
from .growth import grow
from .model import decoder, make_model, tower
from .vision import train_tower
from .words import align_words

STAGES = (
    Stage("select", 4, 2000, muon_rate=5e-3, adamw_rate=2e-3, short=1.0, climb=True),
    Stage("deepen", 12, 1200, muon_rate=4e-3, adamw_rate=2e-3, tower_rate=0.1, short=0.6, fade=600),
    Stage("finish", 24, 1000, muon_rate=3e-3, adamw_rate=1.5e-3, hold=0.4, floor=0.02),
)


def train(folder: Path, device: torch.device, seed: int = 0) -> Qwen2VLForConditionalGeneration:
    """Run every stage, taking up what is in `folder` already; returns the trained model."""
    torch.manual_seed(seed)
    with device:
        model = make_model(STAGES[0].layers)
    heads = train_tower(tower(model), folder)
    align_words(decoder(model).embed_tokens, heads)
    for number, stage in enumerate(STAGES, start=1):
        torch.manual_seed(seed + number)
        if stage.layers != len(decoder(model).layers):
            model = grow(model, stage.layers)
        train_answers(model, stage, folder)
    return model
