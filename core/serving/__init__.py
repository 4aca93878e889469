"""What the HTTP API is made of beneath its routes (``core.api``): plain ASGI and threads, no web framework."""
