"""Campaigns that damage or kill real runs: `python -m tests.campaigns.damage`, `.kills`."""
