"""Stand-ins for the providers' HTTP APIs, for local runs and tests. README.md lists what each credential does."""
