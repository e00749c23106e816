"""Who may call: API keys, and the sign-ins of the browse page."""
