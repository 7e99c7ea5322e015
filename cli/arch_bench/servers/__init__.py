"""Servers that commands reach, and one that an exported model is tried in."""
