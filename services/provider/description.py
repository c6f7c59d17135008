"""What a form shows of a provider: the one source of the dashboard's fields and of the documentation's."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a credential.

    `name` is the field of the credential's dataclass, e.g. `api_key`. `pattern` matches the whole of a value that is
    trimmed, in the syntax that JavaScript and Python have in common. `choices` has the default first. The customer
    chooses one of the ways that a form's fields name, and gives all the fields of this `way`; one without stands beside
    each of them. `made_up` says that the customer may have it made up by chance, `phone_number` that it is one.
    """

    name: str
    label: str
    hint: str
    pattern: str = ""
    placeholder: str = ""
    help_url: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False
    secret: bool = False
    advanced: bool = False
    way: str = ""
    made_up: bool = False
    phone_number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A provider, for people.

    `console_url` is where the customer finds what the fields ask for; `next` says what happens after a connect.
    `asks_for` has a sentence for each thing that a consent asks for, `never_asks_for` for some that people may fear.
    `available` is false where this deployment lacks what it takes.
    """

    title: str
    summary: str
    next: str
    console_url: str
    fields: tuple[Field, ...] = ()
    asks_for: tuple[str, ...] = ()
    never_asks_for: tuple[str, ...] = ()
    available: bool = True
