"""The parsers' tests: what their helper asserts is shown as if it stood in the tests."""

import pytest

pytest.register_assert_rewrite("protocols.host")
