"""The plugins of other evaluation harnesses."""
