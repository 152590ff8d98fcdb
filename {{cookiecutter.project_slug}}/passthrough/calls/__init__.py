"""Calls to Flyte. `make_safe` changes the SDK once, with the functions of these modules."""
