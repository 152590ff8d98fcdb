"""The app's settings. Those for the connection to Flyte are in ``passthrough/settings.py``."""

from passthrough import CredentialHeader, Name, setting
from passthrough import Settings as FlyteSettings
from passthrough.agents import Issuer  # docs/agents.md


class Settings(FlyteSettings):
    """Settings from the environment: to add one that ``TEAM`` gives, write ``team: str = ""``."""

    flyte_project: Name = setting(
        "FLYTE_PROJECT",
        "FLYTE_INTERNAL_EXECUTION_PROJECT",
        default="{{ cookiecutter.flyte_project }}",
    )
    flyte_domain: Name = setting(
        "FLYTE_DOMAIN",
        "FLYTE_INTERNAL_EXECUTION_DOMAIN",
        default="{{ cookiecutter.flyte_domain }}",
    )
    credential_headers: tuple[CredentialHeader, ...] = setting(
        "CREDENTIAL_HEADERS",
        default="{{ cookiecutter.credential_headers }}",
    )
    oauth_issuer: Issuer | None = None  # docs/agents.md
