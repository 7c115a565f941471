"""Vision-language models: loading, one adapter per family, and the layout of visual tokens."""
