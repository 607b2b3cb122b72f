"""How machines get their first shared material: realms, kits, and what people compare.

``realm`` makes realm files, ``kit`` is the container that carries one link's material, ``creating`` and
``importing`` make links of it at a hub and at a KME, ``collecting`` decides about the realm files that
kits bring. Files, clocks, randomness and stores are handed in.
"""
