"""What the layers of encoders represent, from the stored embeddings of a run."""
