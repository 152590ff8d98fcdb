"""The app's settings. What it needs to reach Flyte is in ``passthrough/settings.py``."""

from passthrough.settings import Settings as FlyteSettings
from passthrough.settings import env


class Settings(FlyteSettings):
    """Read from the environment. A setting of your own is one more line like these."""

    flyte_project: str = env(
        "FLYTE_PROJECT",
        "FLYTE_INTERNAL_EXECUTION_PROJECT",
        default="{{ cookiecutter.flyte_project }}",
    )
    flyte_domain: str = env(
        "FLYTE_DOMAIN",
        "FLYTE_INTERNAL_EXECUTION_DOMAIN",
        default="{{ cookiecutter.flyte_domain }}",
    )
    credential_headers: tuple[str, ...] = env(
        "CREDENTIAL_HEADERS",
        default="{{ cookiecutter.credential_headers }}",
    )
