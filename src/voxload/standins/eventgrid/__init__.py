"""A stand-in for an Azure Event Grid topic: takes events and delivers them to webhooks."""
