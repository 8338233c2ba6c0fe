"""Addresses are shown without their secrets, however a library writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.addresses import hide_secrets, hide_secrets_in
from tests.features.shop import examples


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://usual:hunter2@db:5432/mlflow", "postgresql://***@db:5432/mlflow"),
        ("postgresql+psycopg://usual:p@ss/w:rd@db/mlflow", "postgresql+psycopg://***@db/mlflow"),
        ("postgresql://usual:wh?t@db/mlflow", "postgresql://***@db/mlflow"),
        ("https://token@tracking.example", "https://***@tracking.example"),
        (
            "postgresql://db/mlflow?user=u&password=hunter2&sslmode=on",
            "postgresql://db/mlflow?user=u&password=***&sslmode=on",
        ),
        ("s3://bucket/x?X-Amz-Signature=abc", "s3://bucket/x?X-Amz-Signature=***"),
        ("sqlite:////home/shop/.usual/mlflow.db", "sqlite:////home/shop/.usual/mlflow.db"),
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("", ""),
    ],
)
def test_users_passwords_and_tokens_are_hidden(address: str, shown: str) -> None:
    assert hide_secrets(address) == shown


WORD = st.text("abcXYZ019!$%-_+?&#@:/ ", min_size=4, max_size=20).map(lambda s: s + "~Q7")


@examples(200)
@given(password=WORD)
def test_no_password_is_in_a_message(password: str) -> None:
    address = f"postgresql://usual:{password}@db/mlflow"
    assert password not in hide_secrets(address)
    messages = [f"cannot connect to {address!r}", f"password {password} is wrong", f"retry {address}: refused",
                f"see postgresql+psycopg://usual:{password}@db/x"]  # fmt: skip
    for message in messages:
        assert password not in hide_secrets_in(message, address)


def test_an_encoded_password_is_hidden_in_both_spellings() -> None:
    address = "postgresql://usual:p%40ssw0rd@db/mlflow"
    text = hide_secrets_in("p%40ssw0rd and p@ssw0rd, also of http://other:known@else", address)
    assert text == "*** and ***, also of http://***@else"
