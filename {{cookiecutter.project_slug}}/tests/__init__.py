"""Tests of the app. What the environment says to the app is not for them, but for ``make deploy``."""

import os

from app.settings import Settings
from passthrough.settings import names

for field in Settings.model_fields.values():
    for name in names(field):
        os.environ.pop(name, None)
