"""What a Flyte answers, as data, and a runner that compares; see README.md."""
