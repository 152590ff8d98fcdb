"""Every endpoint as a tool for AI agents.

On top of the other folders, because a tool call is a request to the app.
"""

from .serve import serve_agents

__all__ = ["serve_agents"]
