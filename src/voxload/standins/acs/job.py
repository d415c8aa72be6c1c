"""What a process needs to know to be an exchange; without what it needs to be one."""

from __future__ import annotations

from voxload.model.base import Model
from voxload.model.exchange import ExchangeSettings
from voxload.model.twin import Port


class ExchangeJob(Model):
    """All that an exchange in a process of its own needs to know."""

    settings: ExchangeSettings = ExchangeSettings()
    host: str = "127.0.0.1"
    port: Port = 0
    webhook: str = ""
    """Which one is rung by calls that name none."""
