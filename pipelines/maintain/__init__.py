"""What keeps Iceberg tables small and quick: compaction, retention, expiry and the sweep."""
