"""Extractors under measurement: each folder here is a package for `--extractors_package`."""
