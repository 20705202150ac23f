"""Bytes to ASGI and back: the only place that knows uvicorn and httptools."""
