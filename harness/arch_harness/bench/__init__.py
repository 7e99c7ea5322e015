"""The run: embed, score, compare, probe again."""
