"""From recipe text to a checked `Recipe`: reading, composition, validation. Builds nothing and imports no torch."""
