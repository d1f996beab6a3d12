"""What is wrong with a recipe, as far as its text tells."""
