"""What the pages show of stored objects: times, shortened texts, Markdown."""
