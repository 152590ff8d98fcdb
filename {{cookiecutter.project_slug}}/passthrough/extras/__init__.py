"""What the SDK lacks for an app."""
