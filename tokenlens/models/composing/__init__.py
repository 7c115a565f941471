"""Putting a model together from a pretrained decoder and what ships: fetch, merge, write."""
