"""For programs of checks that need no bed: the register, and TAP.

SPDX-License-Identifier: GPL-3.0-or-later
"""
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def run_checks():
    """Its exit status."""
    print(f"1..{len(CHECKS)}")
    failures = 0
    for number, function in enumerate(CHECKS, 1):
        try:
            function()
            print("ok", number, function.__name__)
        except Exception as error:  # whatever went wrong, the other checks still say something
            failures += 1
            print("not ok", number, function.__name__)
            print("#", type(error).__name__, str(error).replace("\n", "\n# "))
    return 1 if failures else 0
