"""How the property tests search: the same examples each time, so that a green tree stays green, and no deadlines, as machines differ.

HYPOTHESIS_PROFILE=search looks for new examples.
"""

import os

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
