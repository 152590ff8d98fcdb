"""The app as a whole: with a Flyte that fails, is counted, or traces."""
