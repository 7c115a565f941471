"""What `queries="generated"` costs: generation with and without the probe, side by side.

    python benchmarks/probing_generation.py

Random-weight Qwen2-VL decoders with 576 visual tokens (a grid of 24 x 24), greedy decoding and beam
search. Plain, probed once and probed at every head take turns, so that a busy machine disturbs all
of them alike; printed are the medians, and the median of the ratios within a turn.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import BatchFeature, PreTrainedModel, Qwen2VLConfig
from transformers import Qwen2VLForConditionalGeneration as Qwen2VL

import tokenlens as tl

IMAGE, VISION_START, VISION_END, WORD = 5, 3, 4, 10
WIDTHS = {
    "toy, 24 layers of width 128": {"layers": 24, "hidden": 128, "inner": 384, "heads": 4, "kv": 2},
    "4 layers of Qwen2-VL-2B's width": {
        "layers": 4, "hidden": 1536, "inner": 8960, "heads": 12, "kv": 2,
    },
}  # fmt: skip


def model_of(layers: int, hidden: int, inner: int, heads: int, kv: int) -> PreTrainedModel:
    """A decoder of that size with a vision tower that costs next to nothing."""
    torch.manual_seed(0)
    rotary = hidden // heads // 2
    config = Qwen2VLConfig(
        text_config={
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_attention_heads": heads,
            "num_key_value_heads": kv,
            "vocab_size": 1024,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [rotary // 4, rotary * 3 // 8, rotary * 3 // 8],
            },
            "eos_token_id": None,
            "pad_token_id": 0,
            "bos_token_id": None,
        },
        vision_config={
            "depth": 1,
            "embed_dim": 32,
            "hidden_size": hidden,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 4,
            "spatial_merge_size": 1,
            "temporal_patch_size": 2,
        },
        image_token_id=IMAGE,
        video_token_id=6,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )
    model: PreTrainedModel = Qwen2VL(config).eval()
    model.generation_config.pad_token_id = 0
    return model


def inputs_of(model: PreTrainedModel, batch: int, side: int = 24, words: int = 64) -> BatchFeature:
    """Prompts of one picture of side² visual tokens and so many words."""
    picture = [VISION_START, *[IMAGE] * side**2, VISION_END]
    ids = torch.tensor([[*range(WORD, WORD + words // 2), *picture, *range(50, 50 + words // 2)]])
    ids = ids.expand(batch, -1).contiguous()
    pixels = torch.randn(batch * side**2, 3 * 2 * 4**2)
    return BatchFeature(
        {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == IMAGE).int(),
            "pixel_values": pixels,
            "image_grid_thw": torch.tensor([[1, side, side]] * batch),
        }
    ).to(model.device)


def measure(
    model: PreTrainedModel, batch: int, tokens: int, turns: int, beams: int
) -> dict[str, list[float]]:
    """Seconds of every turn: plain, probed, probed at every head."""
    inputs = inputs_of(model, batch)
    options = {"max_new_tokens": tokens, "num_beams": beams, "suppress_tokens": [IMAGE]}

    def plain() -> None:
        model.generate(**inputs, **options)

    def probed(per_head: bool) -> Callable[[], None]:
        def run() -> None:
            with tl.probe(model, queries="generated", per_head=per_head):
                model.generate(**inputs, **options)

        return run

    ways = {"plain": plain, "probed": probed(False), "every head": probed(True)}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        names = list(ways) if turn % 2 else list(reversed(ways))
        for name in names:
            _wait(model)
            began = clock(model)
            ways[name]()
            _wait(model)
            if turn:  # the first one warms up
                found[name].append(clock(model) - began)
    return found


def clock(model: PreTrainedModel) -> float:
    """Seconds: of the wall beside an accelerator, else of this process on all its threads."""
    return time.process_time() if model.device.type == "cpu" else time.perf_counter()


def _wait(model: PreTrainedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="", help="part of a model's name; default: all")
    parser.add_argument("--ways", type=int, default=3, help="how many of the ways to decode")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(
        f"{given.device}, {given.threads} threads, torch {torch.__version__}, {given.turns} turns"
    )
    print("| model | batch | decoding | plain, s | probed, s | ratio | every head, ratio |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for name, size in WIDTHS.items():
        if given.model not in name:
            continue
        model = model_of(**size).to(given.device)
        for batch, beams in ((1, 1), (4, 1), (1, 4))[: given.ways]:
            found = measure(model, batch, given.tokens, given.turns, beams)
            ratios = {
                way: statistics.median(
                    one / other for one, other in zip(times, found["plain"], strict=True)
                )
                for way, times in found.items()
            }
            decoding = "greedy" if beams == 1 else f"{beams} beams"
            plain, probed = (statistics.median(found[way]) for way in ("plain", "probed"))
            print(
                f"| {name} | {batch} | {decoding}, {given.tokens} tokens | {plain:.3f} | "
                f"{probed:.3f} | {ratios['probed']:.3f} | {ratios['every head']:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
