"""From runs to a decision: what differs between them, and whether one of them may be deployed."""
