"""The ETSI GS QKD 014 V1.1.1 door: three methods over HTTPS with certificates on both sides.

``models`` knows the standard's formats, ``handlers`` what the methods mean, ``answers`` what a refusal
looks like; none of them knows HTTP's machinery. ``identity`` and ``context`` know certificates,
``connection`` and ``server`` know aiohttp. Nothing here knows how keys come about.
"""
