"""What the authors of ARCH published, and a run set beside it."""
