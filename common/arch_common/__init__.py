"""What the parts share: one hierarchy of errors, whole-file writes, signals, and how a session is opened."""
