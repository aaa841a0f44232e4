"""What the docks hold."""
