"""Who may have which key: one language for hubs, KMEs and SAEs, and decisions that can be explained.

Text goes in, a ``PolicySet`` comes out; a mistake in the text is named with its line and the right
spelling. Default deny, deny overrides allow, and the order of rules has no meaning. Nothing here
reads a file, counts what was used, or knows keys.
"""
