"""Incoming requests: ``door`` refuses them or passes them on, and ``problems`` answers errors."""
