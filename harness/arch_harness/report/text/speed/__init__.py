"""What a report says of the speed: tables, where the time goes, advice."""
