"""Requests that no honest client sends, and the rules of /openapi.json."""
