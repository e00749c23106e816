"""What is refused, and in which words. Nothing here knows Flask or SQL."""
