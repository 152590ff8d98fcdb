"""Handles incoming requests. ``middleware.py`` lists all middleware in order."""
