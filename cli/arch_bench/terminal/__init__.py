"""The terminal that a command writes to, and what of a run is shown there."""
