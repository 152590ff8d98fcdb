"""Tests of the local Flyte itself: it must support the app and the Flyte CLI."""
