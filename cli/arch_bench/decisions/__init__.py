"""From runs to a decision: `compare`, `gate` and `publish`."""
