"""Memory cost of the probe and of pruning: peak memory of a prefill against that of a plain one.

    python -m tokenlens.analyses.studies.probe_memory --visual-tokens 4096

Four arms: the plain prefill under SDPA, the probed one, the one pruned by SwiftVLM to 33 %, and for
comparison the eager one that returns its whole maps. Every arm runs in its own process, so that
memory is measured separately. The model is a random Qwen2-VL with a decoder of half Qwen2-VL-2B's
width; what is measured is the peak above the loaded model.
"""

import argparse
import os
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pandas as pd
import torch
from transformers import (
    BatchFeature,
    PreTrainedModel,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from tokenlens.methods import find_method
from tokenlens.probing.recording import Recording, probe
from tokenlens.pruning.engine import prune
from tokenlens.pruning.trace import Trace
from tokenlens.schedule.budget import parse_budget

ARMS = ("plain", "probed", "pruned", "eager maps")
_IMAGE, _PATCH, _TEXT = 5, 4, 32
_STEADY_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}
"""Freed tensors return to the system at once; without this the peak varies by 15 %."""


def compute(visual_tokens: int = 4096, device: str = "cpu") -> pd.DataFrame:
    """Peak memory of a prefill in every arm.

    Args:
        visual_tokens: Of one picture; a square number.
        device: `cpu` (resident memory of the process, Linux) or `cuda` (allocated memory).

    Returns:
        One row per arm: arm, peak_mib above the loaded model, ratio to the plain arm.
    """
    peaks = [_measure_apart(arm, visual_tokens, device) / 2**20 for arm in ARMS]
    table = pd.DataFrame({"arm": ARMS, "peak_mib": peaks})
    table["ratio"] = table.peak_mib / table.peak_mib[0]
    return table


def measure(arm: str, visual_tokens: int, device: str) -> int:
    """Peak bytes above the loaded model in one prefill, in this process."""
    model = _model().to(device)  # type: ignore[arg-type]
    inputs = _inputs(model, visual_tokens)
    context = _context(model, arm, visual_tokens)
    maps = {"output_attentions": True} if arm == "eager maps" else {}
    model.set_attn_implementation("eager" if maps else "sdpa")
    with torch.inference_mode(), context as recording:
        model(**_inputs(model, 16), **maps, logits_to_keep=1)  # code pages and thread buffers, once
        loaded = _reset_peak(device)
        model(**inputs, **maps, logits_to_keep=1)
        peak = _peak(device)
    if isinstance(recording, Recording) and recording.importance[0].shape[1] != visual_tokens:
        raise RuntimeError("the probe did not record every visual token")
    return peak - loaded


def _context(
    model: PreTrainedModel, arm: str, visual_tokens: int
) -> AbstractContextManager[Recording | Trace | None]:
    """What the model runs in, in an arm."""
    if arm == "probed":
        return probe(model)
    if arm == "pruned":  # at the relative depth of Qwen2-VL's 28 layers
        schedule, _ = find_method("swiftvlm").build_or_earlier(
            model, budget=parse_budget("33%"), n_visual=visual_tokens, n_text=_TEXT, depth=28
        )
        return prune(model, schedule)
    return nullcontext()


def _measure_apart(arm: str, visual_tokens: int, device: str) -> int:
    command = [sys.executable, "-m", __spec__.name, "--arm", arm]
    command += ["--visual-tokens", str(visual_tokens), "--device", device]
    finished = subprocess.run(  # noqa: S603
        command, env=os.environ | _STEADY_MALLOC, check=True, stdout=subprocess.PIPE
    )
    return int(finished.stdout)


def _model() -> Qwen2VLForConditionalGeneration:
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": 128,
            "bos_token_id": None,
            "eos_token_id": None,
            "hidden_size": 768,
            "intermediate_size": 4480,
            "num_hidden_layers": 8,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24]},
        },
        vision_config={
            "depth": 1,
            "embed_dim": 32,
            "hidden_size": 768,
            "num_heads": 1,
            "mlp_ratio": 1,
            "patch_size": _PATCH,
            "spatial_merge_size": 1,
        },
        image_token_id=_IMAGE,
    )
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(config)
    model.eval()
    return model


def _inputs(model: Qwen2VLForConditionalGeneration, visual_tokens: int) -> BatchFeature:
    side = round(visual_tokens**0.5)
    ids = torch.tensor([[10] * 4 + [_IMAGE] * side**2 + [11] * (_TEXT - 4)])
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == _IMAGE).int(),
        "pixel_values": torch.randn(side**2, 3 * 2 * _PATCH**2),
        "image_grid_thw": torch.tensor([[1, side, side]]),
    }
    return BatchFeature(inputs).to(model.device)


def _reset_peak(device: str) -> int:
    """Forget earlier peaks; bytes in use now."""
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak(device: str) -> int:
    return _status("VmHWM") if device == "cpu" else torch.cuda.max_memory_allocated()


def _status(field: str) -> int:
    """A size of this process from the Linux kernel's status file, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}; measure with --device cuda")


def main() -> None:
    """Print the table, or with `--arm` the bytes of one arm."""
    parser = argparse.ArgumentParser(prog="python -m tokenlens.analyses.studies.probe_memory")
    parser.add_argument("--visual-tokens", type=int, default=4096)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        report = str(measure(options.arm, options.visual_tokens, options.device))
    else:
        table = compute(options.visual_tokens, options.device)
        report = table.to_string(index=False, float_format="{:.3f}".format)
    sys.stdout.write(report + "\n")


if __name__ == "__main__":
    main()
