"""Tests of the app. They ignore the app's variables in the environment."""

import os

from app.settings import Settings
from passthrough import variables_of

for field in Settings.model_fields.values():
    for name in variables_of(field):
        os.environ.pop(name, None)
