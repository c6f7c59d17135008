"""How TenantVault is run."""
