"""Ptychography with physics-informed networks: stores, streams, training and stitching.

Importing the package is quiet and quick: every public name is imported from its module when it
is first used. `__init__.pyi` is the list of them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
