"""Ten models whose extractor gives dicts."""
