"""What sends requests and records what comes back."""
