"""End-to-end tests: the real processes, started, asked, interrupted and killed as a person or a bad day would."""

import pytest

pytest.register_assert_rewrite("tests.e2e.books", "tests.e2e.processes")
