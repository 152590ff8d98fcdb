"""The expected answers of a Flyte, as data, and a runner that compares them; see README.md."""
