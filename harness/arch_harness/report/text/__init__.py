"""What a report says, whatever its format."""
