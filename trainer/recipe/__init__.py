"""Recipe text -> positions -> composition -> checks -> `Recipe`. Builds nothing and, but for tier 2, imports no torch."""
