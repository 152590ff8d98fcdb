"""Checks that the suite notices mutations of the middleware."""
