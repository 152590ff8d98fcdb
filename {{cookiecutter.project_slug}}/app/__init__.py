"""{{ cookiecutter.project_slug }}: a FastAPI app whose calls to Flyte carry its callers' credentials."""
