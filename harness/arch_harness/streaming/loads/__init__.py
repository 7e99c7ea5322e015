"""The loads that a pass puts on the servers: which, how many requests in flight, and when clips are due."""
