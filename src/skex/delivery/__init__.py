"""Doors: how applications take keys. Each depends on ``KeyService`` and on nothing else of skex."""
