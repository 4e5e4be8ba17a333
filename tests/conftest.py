"""Property tests have no deadline: other tests run beside them."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("lab", deadline=None)
settings.load_profile("lab")
