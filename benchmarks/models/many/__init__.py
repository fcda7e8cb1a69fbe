"""As many models as an environment variable says, whose extractor gives dicts."""
