"""Runs of an unpruned or pruned model over samples, and the cache of its answers."""
