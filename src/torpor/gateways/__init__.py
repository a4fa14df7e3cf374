"""The doors: each knows the service and no other door."""
