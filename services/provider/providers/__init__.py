"""One module for each provider."""
