"""What each layer does with the picture, without labels: divergence from the unpruned model."""
