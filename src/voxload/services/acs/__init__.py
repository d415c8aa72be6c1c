"""Outbound calls through Azure Communication Services, with the vendor's SDK."""
