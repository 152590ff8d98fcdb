"""Makes the app act as its callers. Don't edit it: updates of the template replace it.

``app/`` imports this package, which knows of ``app/`` only the name ``app.main:app``, to pickle it.
"""
