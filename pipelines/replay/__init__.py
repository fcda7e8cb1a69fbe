"""Stored envelopes run again, and what is known of them."""
