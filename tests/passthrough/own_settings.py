"""Settings of an owner."""

from typing import Self

from pydantic import model_validator

from passthrough.settings import Settings, setting
from passthrough.start import load_settings as load


class OwnSettings(Settings):
    colours: tuple[str, ...] = setting("COLOURS", default=())

    @model_validator(mode="after")
    def _are_few(self) -> Self:
        if len(self.colours) > 2:
            raise ValueError("give two COLOURS")
        return self


def load_settings(**variables: str) -> Settings:
    return load(Settings, variables)
