"""Selection: criteria for layers, the choice of layers, and keep ratios that meet a budget."""
