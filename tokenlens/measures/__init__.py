"""Measures on arrays of importance: rank correlation, region overlap, divergence, intervals."""
