"""Conversion between Flyte's literals and types, and JSON and JSON Schema.

Anyone who can deploy a task or start a run controls the messages that this package reads. So
this package never loads, imports, builds, executes or opens anything in these messages, and it
limits the work of each conversion.
"""
