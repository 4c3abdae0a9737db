"""Who may push what to where on the Hub."""

import pytest
from teleop_export.planning.push import PushRequest, check_right, read_namespaces
from teleop_schema.errors import NotAllowed

HERS = frozenset({"lab"})
PRIVATE, PUBLIC, OVER = PushRequest(), PushRequest(private=False), PushRequest(overwrite=True)


@pytest.mark.parametrize(
    ("push", "repo_id", "namespaces", "admin"),
    [
        (PRIVATE, "anybody/pick", frozenset(), True),
        (PUBLIC, "lab/pick", HERS, True),
        (OVER, "Lab/pick", HERS, True),
        (PRIVATE, "lab/pick", HERS, False),
        (PRIVATE, "LAB/pick", HERS, False),
    ],
)
def test_allowed(push, repo_id, namespaces, admin):
    """An admin, anywhere or where it is said; others, privately, where it is said."""
    check_right(push, repo_id, namespaces, admin=admin)


@pytest.mark.parametrize(
    ("push", "repo_id", "namespaces", "admin", "field"),
    [
        (PRIVATE, "lab/pick", frozenset(), False, None),
        (PRIVATE, "evil/pick", HERS, True, "repo_id"),
        (PRIVATE, "lab.evil/pick", HERS, True, "repo_id"),
        (PRIVATE, "evil/lab", HERS, False, "repo_id"),
        (PUBLIC, "lab/pick", HERS, False, "private"),
        (OVER, "lab/pick", HERS, False, "overwrite"),
    ],
)
def test_not_allowed(push, repo_id, namespaces, admin, field):
    """The error names what is not allowed, or what would allow it."""
    with pytest.raises(NotAllowed) as refused:
        check_right(push, repo_id, namespaces, admin=admin)
    assert refused.value.field == field
    assert refused.value.hint or field in ("private", "overwrite")


def test_namespaces_are_read_as_people_write_them():
    """With commas or spaces, in any case; a path or an address is none."""
    assert read_namespaces("Lab, anna  bob-2,") == {"lab", "anna", "bob-2"}
    assert read_namespaces("") == frozenset()
    for wrong in ("lab/pick", "https://huggingface.co/lab", "..", "-lab"):
        with pytest.raises(ValueError, match="is not the name of a user"):
            read_namespaces(f"lab {wrong}")
