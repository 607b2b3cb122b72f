"""The keys of one KME: reserves, lifecycle, claims, and the service that doors and consumers call.

Below it are the protocol's machines, above it doors that must know nothing but ``KeyService``.
"""
