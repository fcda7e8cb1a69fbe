"""Training and validation sets for Arize: the reference that drift is measured against."""
