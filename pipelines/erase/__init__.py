"""Rows about a person taken out of tables, with all files that held them."""
