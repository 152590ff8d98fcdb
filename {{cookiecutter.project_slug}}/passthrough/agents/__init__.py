"""Every endpoint as a tool for AI agents."""

from .serve import serve_agents

__all__ = ["serve_agents"]
