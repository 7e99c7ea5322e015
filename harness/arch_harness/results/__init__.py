"""What `results.json` holds."""
