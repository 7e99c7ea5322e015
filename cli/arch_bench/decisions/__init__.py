"""From runs to a decision: `compare` and `gate`."""
