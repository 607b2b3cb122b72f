"""skex: symmetric keys between enrolled machines, over hubs of which no minority learns them."""

__version__ = "0.1.0"
