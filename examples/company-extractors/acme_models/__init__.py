"""Acme's models, one module each."""
