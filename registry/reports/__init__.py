"""Parts of the report, each a class whose `render` writes pictures into the run folder and returns a section.

A module lists what a recipe may name in `__all__`. Parts know the contracts, not each other; what they share is
layers.py and cam.py (class-activation maps), scores.py (numbers from predictions), chart*.py and pictures.py (drawing).
"""
