"""What the steps of the pipeline cost as traffic grows; see `docs/scaling.md`."""
