"""A checkpoint: which one is meant, its files on this disk, its weights in memory."""
