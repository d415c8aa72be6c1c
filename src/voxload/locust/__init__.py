"""Voice calls in a locustfile: `from voxload.locust import VoiceUser`."""

from voxload.locust.user import VoiceUser

__all__ = ["VoiceUser"]
