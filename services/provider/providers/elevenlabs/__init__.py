"""ElevenLabs: voices and voice agents.

Sources: https://elevenlabs.io/docs/api-reference/introduction,
https://elevenlabs.io/docs/eleven-api/resources/errors, https://elevenlabs.io/docs/eleven-api/resources/webhooks.
"""

from services.provider.providers.elevenlabs.account import ElevenLabs

__all__ = ["ElevenLabs"]
