"""The ledger: what became of each envelope that was served, by query over tables."""
