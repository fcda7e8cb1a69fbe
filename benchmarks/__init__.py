"""What the pipeline costs, beside a hand-written loop that does the same work: `make bench`."""
