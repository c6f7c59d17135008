"""A webhook's request, as it arrived."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request. It shows neither URL nor headers nor body when it is printed: each may hold a secret.

    Args:
        method: in upper case.
        url: the public URL, the one that the provider was told, with its query as it was sent. Never made from the
            request's own Host header, which anybody can set.
        headers: names in lower case, in the order in which they came.
        body: all of it, byte for byte: what is parsed and written again verifies no more.
    """

    method: str
    url: str = field(repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    body: bytes = field(repr=False)

    def header(self, name: bytes) -> bytes | None:
        """The one value of a header, by its name in lower case; None when there is none, or more than one."""
        values = [value for key, value in self.headers if key == name]
        return values[0] if len(values) == 1 else None
