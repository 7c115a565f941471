"""What several commands and pages say in the same words."""
