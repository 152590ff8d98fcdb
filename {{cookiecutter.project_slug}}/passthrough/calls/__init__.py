"""What happens to a call to Flyte: `make_safe` changes the SDK, once, as these modules say."""
