"""A model that tells from its chemistry of which cultivar a wine is."""
