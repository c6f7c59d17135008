"""The vault: encryption, org isolation, look-up, audit. The only process with keys and a database."""
