"""A company's package of extractors, as it would stand beside ours."""
