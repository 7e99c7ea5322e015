"""Datasets from their publishers to this disk."""
