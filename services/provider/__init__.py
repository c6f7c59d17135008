"""The provider service: tests and provisions. The only process with internet."""
