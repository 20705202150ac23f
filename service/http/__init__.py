"""One request as ASGI sees it, whatever the protocol."""
