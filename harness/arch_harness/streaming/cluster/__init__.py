"""The nodes that workers run on: which there are, what each must have, and what becomes of one that is lost."""
