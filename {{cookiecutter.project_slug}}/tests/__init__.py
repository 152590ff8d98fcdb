"""Tests of the app. They ignore the app's variables in the environment."""

import os

from app.settings import Settings

for name in Settings.model_fields:
    os.environ.pop(name.upper(), None)
