"""Incoming requests. ``middleware.py`` has the outermost middleware, and a list of all others."""
