"""The short names under which models are known: those that ship, and aliases of hub ids."""

BUNDLED: dict[str, str] = {"tiny-qwen2-vl": "Qwen2-VL"}
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
}
"""Family, then alias, then the id on the model hub."""

ALIASES: dict[str, str] = {
    alias: hub_id for aliases in HUB_IDS.values() for alias, hub_id in aliases.items()
}
"""Every alias with its hub id."""
