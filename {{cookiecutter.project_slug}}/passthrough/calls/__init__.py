"""Makes calls to Flyte safe. `make_safe` changes the SDK with functions of these modules."""
