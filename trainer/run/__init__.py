"""One run from recipe to report: its order, its folder, and how it is continued and loaded."""
