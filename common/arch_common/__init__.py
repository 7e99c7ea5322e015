"""What the parts share: errors, whole-file writes, signals, what a model is, how it is opened, and what it runs on."""
