"""{{ cookiecutter.project_slug }}: a FastAPI app that calls Flyte with its callers' credentials."""
