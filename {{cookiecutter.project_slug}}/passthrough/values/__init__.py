"""Flyte's literals and types, translated to JSON and JSON Schema and back: data in, data out.

Anyone who can deploy a task or start a run controls the messages that are read here. So nothing in
them is ever loaded, imported, built, executed or opened, and the work on them is bounded.
"""
