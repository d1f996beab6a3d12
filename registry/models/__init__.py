"""Networks of our own, and torchvision's beside them; each module lists what a recipe may name in `__all__`."""
