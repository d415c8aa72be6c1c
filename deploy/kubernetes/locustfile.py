"""Voice calls for the Locust operator; the scenario lies beside this file in the ConfigMap (see ../README.md)."""

from voxload.locust import VoiceUser


class Caller(VoiceUser):
    """Callers of the scenario; `--users` says how many."""

    scenario = "/lotest/src/scenario.yaml"
    results = "/results"
