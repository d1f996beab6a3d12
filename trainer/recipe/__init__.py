"""Recipe text -> positions -> composition -> checks -> `Recipe`. Builds nothing; imports torch only for tier 2."""
