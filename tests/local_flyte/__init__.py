"""Tests of the local Flyte server."""
