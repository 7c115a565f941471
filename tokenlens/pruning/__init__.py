"""Pruning of visual tokens: the engine, its scorers and disposals, and the cost of a schedule."""
