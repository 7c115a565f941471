"""Figures: each module computes a table and plots it."""
