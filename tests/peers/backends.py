"""Everything behind relay-in: the modules named below say what they try. Speaks TAP.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fault"))
import tap  # noqa: E402

for module in ("connections", "spares", "answers", "extensions", "identity", "submission"):
    __import__(module)
sys.exit(tap.main())
