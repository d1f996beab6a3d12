"""Metrics a recipe may name."""
