"""The model that answers runs: chat completions of an OpenAI-compatible endpoint."""
