"""`load_test`: how many clips a second servers answer in time."""
