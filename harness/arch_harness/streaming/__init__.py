"""Clips on their way through the servers: Ray workers, requests in flight, retries."""
