"""What happens to a gradient before it is followed."""
