"""Evaluation: answers of unpruned and pruned models, their metrics, and comparisons."""
