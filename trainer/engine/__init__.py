"""The engine: it trains and evaluates live objects and knows nothing of recipes, reports or where files go."""
