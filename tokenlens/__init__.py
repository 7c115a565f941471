"""tokenlens: measure which visual tokens each layer cares about, choose where to prune, and prune."""
