"""Callbacks and sinks a recipe may name: behaviour during training, and places that keep what it shows."""
