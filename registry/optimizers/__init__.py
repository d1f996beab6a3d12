"""Optimizers a recipe may name."""
