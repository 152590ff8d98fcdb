"""Tests of the app. What the environment says to the app is not for them, but for ``make deploy``."""

import os

from app.settings import Settings

for field in Settings.model_fields.values():
    for name in field.validation_alias.choices:  # type: ignore[union-attr]
        os.environ.pop(str(name), None)
