"""50 models that share one input, three of them harmful; for `benchmarks.harm`."""
