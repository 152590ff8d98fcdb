"""Makes the SDK safe for many callers.

Each module defines changes of the SDK, and `make_safe` makes all of them.
"""
