"""The statements on each resource. A function takes the connection of a transaction."""
