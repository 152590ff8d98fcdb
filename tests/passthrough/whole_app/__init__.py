"""Tests of the app as a whole: faults of Flyte, calls to Flyte, telemetry, exports."""
