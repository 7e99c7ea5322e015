"""Audio files as they are: read whole whatever their headers promise, and what is missing of them."""
