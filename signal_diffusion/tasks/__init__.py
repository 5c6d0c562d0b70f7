"""What is done to whole recordings."""
