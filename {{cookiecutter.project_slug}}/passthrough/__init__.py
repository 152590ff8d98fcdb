"""Makes the app act as its callers. Don't edit it: updates of the template replace it.

``app/`` imports this package; nothing in here imports ``app/``.
"""
