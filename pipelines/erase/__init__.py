"""Rows about a person taken out of Iceberg tables, with all files that held them."""
