"""{{ cookiecutter.project_slug }}: a FastAPI app that calls Flyte as whoever is calling it."""
