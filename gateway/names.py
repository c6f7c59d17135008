"""Names of fields: `api_key` in the contract, `apiKey` in the REST interface."""


def camel(name: str) -> str:
    """A field as the REST interface calls it: `apiKey` for `api_key` and for `credential.vapi.api_key`."""
    first, *rest = name.rpartition(".")[2].split("_")
    return first + "".join(word.capitalize() for word in rest)
