"""Ten models whose extractor gives row objects."""
