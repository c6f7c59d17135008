"""Vapi: voice assistants.

Sources: https://api.vapi.ai/api-json (the vendor's OpenAPI description), https://docs.vapi.ai/server-url.
"""

from services.provider.providers.vapi.account import Vapi
from services.provider.providers.vapi.templates import Templates, load_templates

__all__ = ["Templates", "Vapi", "load_templates"]
