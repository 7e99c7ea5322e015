"""A leaderboard of several runs: what of them may stand together, as a page, tables, and for the Hugging Face Hub."""
