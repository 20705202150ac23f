"""Code of the user's own, found by its name, and what makes a runner of it."""
