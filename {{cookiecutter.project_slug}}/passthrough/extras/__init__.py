"""Functions that the SDK lacks: reading lists and details, watching runs, following logs."""
