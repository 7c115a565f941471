"""What answers are worth, one by one and as a set."""
