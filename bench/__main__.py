"""``python -m bench`` is ``python -m bench.run``."""

import sys

from bench.cli.main import main

sys.exit(main())
