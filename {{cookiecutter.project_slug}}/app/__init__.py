"""{{ cookiecutter.project_slug }}: a FastAPI app that calls Flyte as its callers."""
