"""Defects of the SDK: docs/sdk-findings.md tells of them, and its reproductions run here."""
