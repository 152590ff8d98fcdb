"""The public names of the package: old ones, and the examples in docstrings."""

import importlib

import pytest

import passthrough


def test_old_names_warn_and_are_the_new_ones() -> None:
    for old, new in passthrough.OLD_NAMES.items():
        with pytest.warns(DeprecationWarning, match=f"import {new} from passthrough"):
            assert getattr(passthrough, old) is getattr(passthrough, new)
    with pytest.warns(DeprecationWarning, match="fetch_data"):
        exec("from passthrough import data_of")
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        importlib.import_module("passthrough").unknown  # noqa: B018
