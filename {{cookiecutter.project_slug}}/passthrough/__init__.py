"""What makes the app act as its callers. The template's: an update replaces it, so leave it as it is.

``app/`` uses it; nothing in here knows ``app/``.
"""
