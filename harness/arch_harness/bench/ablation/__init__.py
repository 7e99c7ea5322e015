"""The same clips under other preprocessing: what a run can have of it, and its passes."""
