"""The Python client of TenantVault."""
