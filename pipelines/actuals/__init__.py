"""Late actuals from files: `weighbridge actuals upload`."""
