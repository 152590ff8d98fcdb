"""Settings of the app. ``passthrough/settings.py`` has the settings of the connection to Flyte."""

from passthrough import CredentialHeader, Name, setting
from passthrough import Settings as FlyteSettings
from passthrough.agents import Issuer, OAuthScope  # docs/agents.md


class Settings(FlyteSettings):
    """Settings from the environment. The field ``team: str = ""`` reads the variable ``TEAM``."""

    flyte_project: Name = "{{ cookiecutter.flyte_project }}"
    flyte_domain: Name = "{{ cookiecutter.flyte_domain }}"
    credential_headers: tuple[CredentialHeader, ...] = setting(
        "CREDENTIAL_HEADERS",
        default="{{ cookiecutter.credential_headers }}",
    )
    oauth_issuer: Issuer | None = None  # docs/agents.md
    oauth_scopes: tuple[OAuthScope, ...] = ()  # docs/agents.md
