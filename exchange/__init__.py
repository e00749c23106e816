"""Export and import. The exchange format is JSON Lines: one thread in each line."""
