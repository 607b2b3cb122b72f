"""A seeded world around the production core: fake disks, networks and clocks that fail on purpose.

Not shipped in the wheel. Nothing under ``src`` may know that it exists.
"""
