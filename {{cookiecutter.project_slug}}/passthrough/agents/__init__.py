"""Every endpoint as a tool for AI agents.

On top of the other folders, because a tool call is a request to the app.
"""

from .serve import serve_agents
from .sign_in import PATHS

__all__ = ["PATHS", "serve_agents"]
