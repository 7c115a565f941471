"""How `smol-llava` was trained: a pretrained decoder learns to read pictures through adapters."""
