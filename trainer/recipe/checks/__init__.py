"""Validation, tier 1: what is wrong with a recipe as far as its text tells. Imports no torch."""
