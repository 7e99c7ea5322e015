"""A Triton server as a client sees it: endpoint, facts, statistics, metrics."""
