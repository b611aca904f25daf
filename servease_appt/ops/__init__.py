"""What operators need: health, metrics, commands."""
