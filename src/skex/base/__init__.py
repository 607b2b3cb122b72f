"""What every layer shares: errors, identifiers, limits and the type of secrets. Imports nothing of skex."""
