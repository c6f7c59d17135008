"""The one-command stack for one machine."""
