"""Any input is rows, a dead letter with its original bytes, or counted; never an exception."""
