"""What is checked beside the scores: other preprocessing, and what may be wrong."""
