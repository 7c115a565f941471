"""What the figures share: style, rasters, grids and sheets of pictures."""
