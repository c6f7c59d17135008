"""What the package offers is what it names, and says what it is."""

import importlib
import inspect
import pkgutil

import pytest

from tenantvault import webhooks

MODULES = [f"tenantvault.webhooks.{module.name}" for module in pkgutil.iter_modules(webhooks.__path__)]


def test_every_name_in_all_is_there() -> None:
    assert [name for name in webhooks.__all__ if not hasattr(webhooks, name)] == []
    assert sorted(set(webhooks.__all__)) == sorted(webhooks.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for label, member in vars(module).items():
        if label.startswith("_") or getattr(member, "__module__", "") != name:
            continue
        if inspect.isclass(member) or inspect.isfunction(member):
            assert member.__doc__, f"{name}.{label}"
        if inspect.isclass(member):
            for method, function in inspect.getmembers(member, inspect.isfunction):
                assert method.startswith("_") or function.__doc__, f"{name}.{label}.{method}"
