"""Importances: what a number per visual token at one layer may mean, one small file each."""
