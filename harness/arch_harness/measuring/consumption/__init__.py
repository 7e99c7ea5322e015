"""What the servers' hardware takes while they are measured: power of GPUs and CPU packages, and memory."""
