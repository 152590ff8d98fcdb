"""Conformance tests, which compare responses of a Flyte with expected ones; see README.md."""
