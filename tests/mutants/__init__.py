"""The check of the checks: does the middleware's suite notice a changed middleware."""
