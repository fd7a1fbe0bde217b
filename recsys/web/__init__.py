"""ASGI plumbing that the services share: middleware, error responses, and the app factory."""
