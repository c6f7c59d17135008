"""An example: a service that takes the webhooks of four providers, and works with their orgs' credentials."""
