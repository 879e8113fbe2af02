"""Plain ASGI layers in front of the application."""
