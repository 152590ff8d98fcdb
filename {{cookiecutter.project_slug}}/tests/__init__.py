"""Tests of the app. They ignore the app's variables in the environment."""

import os

from app.settings import Settings
from passthrough import names

for field in Settings.model_fields.values():
    for name in names(field):
        os.environ.pop(name, None)
