"""Metrics of answers, per sample and per set of samples."""
