"""The exchange format: JSON Lines, one thread a line; and Markdown for people."""
