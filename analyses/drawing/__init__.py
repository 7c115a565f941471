"""Shared parts of the figures: style, rasters, grids and sheets of pictures."""
