"""Runs the reproductions of the SDK's defects in docs/sdk-findings.md."""
