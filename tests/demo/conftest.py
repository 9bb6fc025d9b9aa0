"""The demo's service is an example, not part of the package: it is imported from the checkout."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"

sys.path.append(str(EXAMPLES))
