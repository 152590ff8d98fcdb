"""Functions that the SDK lacks, to read lists and details, to watch runs and to follow logs."""
