"""From a checked recipe to live objects; the only place that builds them."""
