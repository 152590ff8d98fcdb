"""Defects of the SDK, each with its shortest reproduction; docs/sdk-findings.md tells of them."""
