"""The exchange: a stand-in for Azure Communication Services that rings backends by telephone."""
