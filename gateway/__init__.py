"""The gateway: REST endpoints and the dashboard, for browsers. It has no keys and no database."""
