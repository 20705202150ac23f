"""Metrics of the service, and what feeds them."""
