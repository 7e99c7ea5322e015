"""Datasets through a served encoder to embeddings, probes and one report."""
