"""What the SDK lacks for an app: lists of details, waits, logs, and watching all of a run."""
