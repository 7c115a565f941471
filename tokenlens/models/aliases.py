"""Short names of models: the bundled models, and aliases of hub ids."""

BUNDLED: dict[str, str] = {"tiny-qwen2-vl": "Qwen2-VL", "tiny-llava": "LLaVA-1.5"}
"""Bundled model (a folder of `tokenlens.data`) to its family."""

HUB_IDS: dict[str, dict[str, str]] = {
    "Qwen2-VL": {
        "qwen2-vl": "Qwen/Qwen2-VL-2B-Instruct",
        "qwen2-vl-2b": "Qwen/Qwen2-VL-2B-Instruct",
        "qwen2-vl-7b": "Qwen/Qwen2-VL-7B-Instruct",
        "qwen2-vl-72b": "Qwen/Qwen2-VL-72B-Instruct",
    },
    "Qwen2.5-VL": {
        "qwen2.5-vl": "Qwen/Qwen2.5-VL-3B-Instruct",
        "qwen2.5-vl-3b": "Qwen/Qwen2.5-VL-3B-Instruct",
        "qwen2.5-vl-7b": "Qwen/Qwen2.5-VL-7B-Instruct",
        "qwen2.5-vl-32b": "Qwen/Qwen2.5-VL-32B-Instruct",
        "qwen2.5-vl-72b": "Qwen/Qwen2.5-VL-72B-Instruct",
    },
    "Qwen3-VL": {
        "qwen3-vl": "Qwen/Qwen3-VL-4B-Instruct",
        "qwen3-vl-2b": "Qwen/Qwen3-VL-2B-Instruct",
        "qwen3-vl-4b": "Qwen/Qwen3-VL-4B-Instruct",
        "qwen3-vl-8b": "Qwen/Qwen3-VL-8B-Instruct",
        "qwen3-vl-32b": "Qwen/Qwen3-VL-32B-Instruct",
    },
    "LLaVA-1.5": {
        "llava-1.5": "llava-hf/llava-1.5-7b-hf",
        "llava-1.5-7b": "llava-hf/llava-1.5-7b-hf",
        "llava-1.5-13b": "llava-hf/llava-1.5-13b-hf",
    },
    "LLaVA-NeXT": {
        "llava-next": "llava-hf/llava-v1.6-mistral-7b-hf",
        "llava-next-7b": "llava-hf/llava-v1.6-vicuna-7b-hf",
        "llava-next-13b": "llava-hf/llava-v1.6-vicuna-13b-hf",
        "llava-next-34b": "llava-hf/llava-v1.6-34b-hf",
    },
    "LLaVA-OneVision": {
        "llava-onevision": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
        "llava-onevision-0.5b": "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        "llava-onevision-7b": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    },
    "InternVL": {
        "internvl3": "OpenGVLab/InternVL3-2B-hf",
        "internvl3-1b": "OpenGVLab/InternVL3-1B-hf",
        "internvl3-2b": "OpenGVLab/InternVL3-2B-hf",
        "internvl3-8b": "OpenGVLab/InternVL3-8B-hf",
    },
    "SmolVLM": {
        "smolvlm2": "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        "smolvlm2-256m": "HuggingFaceTB/SmolVLM2-256M-Video-Instruct",
        "smolvlm2-500m": "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
        "smolvlm2-2.2b": "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
    },
    "Idefics3": {
        "idefics3": "HuggingFaceM4/Idefics3-8B-Llama3",
        "smolvlm": "HuggingFaceTB/SmolVLM-Instruct",
        "smolvlm-256m": "HuggingFaceTB/SmolVLM-256M-Instruct",
        "smolvlm-500m": "HuggingFaceTB/SmolVLM-500M-Instruct",
    },
    "Gemma3": {
        "gemma3": "google/gemma-3-4b-it",
        "gemma3-4b": "google/gemma-3-4b-it",
        "gemma3-12b": "google/gemma-3-12b-it",
        "gemma3-27b": "google/gemma-3-27b-it",
    },
    "Mistral3": {
        "mistral-small-3.1": "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
    },
    "PaliGemma": {
        "paligemma": "google/paligemma-3b-mix-224",
        "paligemma2": "google/paligemma2-3b-mix-224",
    },
}
"""Family, then alias, then the id on the model hub. The first SmolVLM is an Idefics3."""

ALIASES: dict[str, str] = {
    alias: hub_id for aliases in HUB_IDS.values() for alias, hub_id in aliases.items()
}
"""Every alias with its hub id."""
