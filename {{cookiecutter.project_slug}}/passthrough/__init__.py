"""What makes the app act as its callers. An update of the template replaces it: leave it alone.

``app/`` uses it; nothing in here knows ``app/``.
"""
