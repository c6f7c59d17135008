"""Stand-ins for the five providers HTTP interfaces, for local runs and tests."""
