"""Texts that several commands and pages share: cautions, figures, and printable names."""
