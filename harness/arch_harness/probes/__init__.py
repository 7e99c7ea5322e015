"""Probes: small classifiers on frozen embeddings, their scores, and how sure these are."""
