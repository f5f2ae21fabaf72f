"""Everything at once, for a reader's own session: `from futures_nb.all import *`."""

import futures_nb as _fnb

__all__ = list(_fnb.__all__)
globals().update({name: getattr(_fnb, name) for name in __all__})
