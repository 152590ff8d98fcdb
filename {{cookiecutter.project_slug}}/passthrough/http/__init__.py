"""Incoming requests. ``middleware.py`` is the outermost middleware, and lists all others."""
