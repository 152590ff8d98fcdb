"""Tests of the app. They ignore settings in environment variables."""

import os

from app.settings import Settings

for name in Settings.model_fields:
    os.environ.pop(name.upper(), None)
