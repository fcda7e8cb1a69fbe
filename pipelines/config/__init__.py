"""Settings by environment: `weighbridge.toml`, its checks, and the options that choose from it."""
