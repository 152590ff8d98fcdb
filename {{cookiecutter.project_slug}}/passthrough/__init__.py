"""Makes the app act as its callers. Don't edit it: updates of the template replace it.

What happens to a request is in ``requests``, to a call to Flyte in ``calls``, to a value in
``values``. ``agents`` makes tools of endpoints; ``application`` puts the app together.

For endpoints: ``dependencies`` has what they take, ``models`` what they return; ``lists`` reads the
SDK's lists, ``waiting`` waits for a run, ``watching`` follows all its actions. ``deploying`` is for
``deployment.py``, which is imported where the app runs, too. ``limits`` has every limit.

``app/`` imports this package, which knows of ``app/`` only the name ``app.main:app``, to pickle it.
"""
