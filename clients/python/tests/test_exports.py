"""What the package offers is what it names."""

import importlib
import inspect
import pkgutil

import pytest

import tenantvault

MODULES = [
    f"tenantvault.{module.name}"
    for module in pkgutil.iter_modules(tenantvault.__path__)
    if not module.name.startswith("_") and module.name != "v1"
]


def test_every_name_in_all_is_there_and_every_public_name_is_in_all() -> None:
    public = {
        name
        for name, value in vars(tenantvault).items()
        if not name.startswith("_") and (not inspect.ismodule(value) or name == "errors")
    }

    assert public == set(tenantvault.__all__)
    assert len(tenantvault.__all__) == len(set(tenantvault.__all__))


@pytest.mark.parametrize("name", [*MODULES, "tenantvault"])
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
