"""A search for better settings by measurement."""
