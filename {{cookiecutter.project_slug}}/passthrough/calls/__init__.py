"""Makes the SDK safe for many callers. `make_safe` applies the changes of the other modules."""
