"""What a run keeps of an earlier one: what it comes from, its speeds, its folder, and that it goes on."""
