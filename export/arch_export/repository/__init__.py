"""The entry of a Triton model repository: its configuration, and how it gets into place."""
