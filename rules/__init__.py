"""The refusals and their sentences. This folder imports neither Flask nor SQL."""
